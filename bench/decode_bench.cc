// Decoding with a real store and worker: exact attention beside a sixteenth of
// the context, at several lengths, interleaved.
//
// The figures are tokens a second of teacher-forced decoding, so that both
// modes decode the same tokens, and the first token of a prompt whose KV the
// store already has.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "bench/harness.h"
#include "demo/client.h"
#include "demo/processes.h"
#include "demo/story.h"

namespace forecache {
namespace {

constexpr size_t kSmokeForcedBytes = 60;  // about 15 tokens

struct Options {
  std::string bin_dir;
  std::string story;
};

// The figures of one context length and mode.
struct Series {
  int context = 0;
  v1::Mode mode = v1::SPARSE;
  BenchFigure rate;
  BenchFigure first_token;
  v1::Summary last;
};

std::string Name(const Series& series) {
  return std::string(series.mode == v1::EXACT ? "exact" : "sparse") + "/" +
         std::to_string(series.context);
}

absl::Status Sample(demo::Client* client, const demo::Story& story, bool smoke,
                    Series* series) {
  v1::GenerateRequest request;
  request.set_prompt(story.text);
  request.set_mode(series->mode);
  request.set_request_id("bench");
  request.set_forced_text(smoke ? story.continuation.substr(
                                      0, kSmokeForcedBytes)
                                : story.continuation);
  const auto answer =
      client->Generate(request, [](const v1::GenerateEvent&) {});
  if (!answer.ok()) return answer.status();
  series->rate.samples.push_back(answer->TokensPerSecond());
  series->first_token.samples.push_back(
      answer->summary.first_token_seconds() * 1e3);
  series->last = answer->summary;
  return absl::OkStatus();
}

void Report(Harness* harness, const Series& series) {
  BenchFigure rate = series.rate;
  rate.name = "decode/" + Name(series);
  rate.unit = "tokens/s";
  rate.higher_is_better = true;
  harness->Record(rate);
  BenchFigure first = series.first_token;
  first.name = "first token, cached/" + Name(series);
  first.unit = "ms";
  harness->Record(first);
  harness->Note(Name(series),
                {{"prompt_tokens", series.last.prompt_tokens()},
                 {"resident_bytes", series.last.resident_bytes()},
                 {"predicted", series.last.predicted()},
                 {"in_time", series.last.in_time()},
                 {"transport", series.last.transport()},
                 {"isa", series.last.isa()}});
}

absl::Status Measure(Harness* harness, const Options& options) {
  demo::Processes processes;
  const auto store =
      processes.Start("store", options.bin_dir + "/kvstore/store", {});
  if (!store.ok()) return store.status();
  const auto worker = processes.Start(
      "worker", options.bin_dir + "/worker/worker",
      {"--store", store->grpc, "--model", harness->model()});
  if (!worker.ok()) return worker.status();
  demo::Client client(worker->grpc, store->grpc);
  const std::vector<int> contexts =
      harness->smoke() ? std::vector<int>{1000}
                       : std::vector<int>{1000, 4000, 7000};
  for (const int context : contexts) {
    const auto story = demo::LoadStory(options.story, context);
    if (!story.ok()) return story.status();
    Series series[2] = {{.context = context, .mode = v1::EXACT},
                        {.context = context, .mode = v1::SPARSE}};
    Series warm_up{.context = context};
    // The first request prefills; from then on the store has the prompt.
    absl::Status status = Sample(&client, *story, true, &warm_up);
    for (int i = 0; i < harness->repeats() && status.ok(); ++i) {
      for (Series& one : series) {
        status = Sample(&client, *story, harness->smoke(), &one);
        if (!status.ok()) break;
      }
    }
    if (!status.ok()) return status;
    for (const Series& one : series) Report(harness, one);
  }
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  Harness harness("decode");
  Options options;
  harness.flags().add_option("--bin-dir", options.bin_dir,
                             "folder with kvstore/store and worker/worker")
      ->required();
  harness.flags().add_option("--story", options.story, "the demo's folder")
      ->required();
  if (const auto code = harness.Parse(argc, argv)) return *code;
  return harness.Finish(Measure(&harness, options));
}

}  // namespace
}  // namespace forecache

int main(int argc, char** argv) { return forecache::Main(argc, argv); }
