#include "demo/report.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>

#include "common/status.h"

namespace forecache::demo {
namespace {

using Json = nlohmann::ordered_json;

constexpr double kPerplexityRatioMax = 1.03;
constexpr double kCompressionShare = 14.0 / 16;  // of 1 / budget
constexpr double kInTimeMin = 0.99;
constexpr double kWarmRatioMax = 0.2;

// Everything the worker keeps of the context, for one unit of what there is.
double Compression(const v1::Summary& s) {
  const double kept =
      double(s.resident_bytes() + s.history_bytes() + s.tail_bytes() +
             s.table_bytes());
  return kept > 0 ? double(s.context_bytes()) / kept : 0;
}

double BytesPerToken(const v1::Summary& s) {
  return s.decoded_tokens() < 2
             ? 0
             : double(s.wire_bytes()) / (s.decoded_tokens() - 1);
}

double Share(uint64_t part, uint64_t whole) {
  return whole == 0 ? 1.0 : double(part) / double(whole);
}

__attribute__((format(printf, 1, 2))) std::string Format(const char* format,
                                                         ...) {
  char text[128];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof(text), format, arguments);
  va_end(arguments);
  return text;
}

void Row(const char* what, const std::string& exact,
         const std::string& sparse) {
  std::printf("  %-38s %14s %14s\n", what, exact.c_str(), sparse.c_str());
}

std::string Mib(uint64_t bytes) {
  return Format("%.2f MiB", double(bytes) / (1 << 20));
}

std::string Count(uint64_t n) {
  return Format("%llu", static_cast<unsigned long long>(n));
}

bool CountersAgree(const Findings& f) {
  return f.store.blocks_put() == f.worker.blocks_put() &&
         f.store.blocks_pushed() == f.worker.blocks_received() &&
         f.store.bytes_pushed() == f.worker.bytes_received() &&
         f.store.probes() == f.worker.probes();
}

bool Check(bool good, const std::string& what) {
  std::printf("  %-4s %s\n", good ? "ok" : "FAIL", what.c_str());
  return good;
}

// A goal is a measure of quality that is shown, met or not; it is no promise
// that breaks the run.
void Goal(bool met, const std::string& what) {
  std::printf("  %-4s %s\n", met ? "ok" : "MISS", what.c_str());
}

double PerplexityRatio(const Findings& f) {
  return f.sparse.continuation.Perplexity() /
         f.exact.continuation.Perplexity();
}

}  // namespace

void PrintTable(const Options& options, const Story& story,
                const Findings& f) {
  const v1::Summary& e = f.exact.continuation.summary;
  const v1::Summary& s = f.sparse.continuation.summary;
  const int facts = static_cast<int>(story.facts.size());
  std::printf("\n");
  Row("", "exact", "sparse");
  Row("context, tokens", Count(e.prompt_tokens()), Count(s.prompt_tokens()));
  Row("resident blocks a layer and KV head", Count(e.context_blocks()),
      Format("%u of %u", s.budget_blocks(), s.context_blocks()));
  Row("resident KV in the worker", Mib(e.resident_bytes()),
      Mib(s.resident_bytes()));
  Row("  and what stores tell of the tail", Mib(e.tail_bytes()),
      Mib(s.tail_bytes()));
  Row("  and predictor history, page tables",
      Mib(e.history_bytes() + e.table_bytes()),
      Mib(s.history_bytes() + s.table_bytes()));
  Row("compression, everything counted", Format("%.1f x", Compression(e)),
      Format("%.1f x", Compression(s)));
  Row("decoded tokens a second",
      Format("%.1f", f.exact.continuation.TokensPerSecond()),
      Format("%.1f", f.sparse.continuation.TokensPerSecond()));
  Row("perplexity of the true continuation",
      Format("%.3f", f.exact.continuation.Perplexity()),
      Format("%.3f", f.sparse.continuation.Perplexity()));
  Row("facts recalled", Format("%d of %d", f.exact.facts, facts),
      Format("%d of %d", f.sparse.facts, facts));
  Row("blocks predicted one token ahead", "-", Count(s.predicted()));
  Row("  arrived in time", "-", Count(s.in_time()));
  Row("  late", "-", Count(s.late()));
  Row("  missed (wanted, not resident)", "-", Count(s.missed()));
  Row("blocks corrected within the token", "-", Count(s.corrected()));
  Row("bytes on the wire a token", Format("%.0f", BytesPerToken(e)),
      Format("%.0f", BytesPerToken(s)));
  Row("first token, cold / warm",
      Format("%.2f s", f.cold_seconds), Format("%.2f s", f.warm_seconds));
  std::printf("  transport %s, instruction set %s, predictor %s\n",
              s.transport().c_str(), s.isa().c_str(), s.predictor().c_str());
  std::printf(
      "  (a staging buffer of %s serves every prefill of the worker; no "
      "context keeps it)\n",
      Mib(s.staging_bytes()).c_str());
}

bool PrintChecks(const Options& options, const Findings& f) {
  const v1::Summary& s = f.sparse.continuation.summary;
  const double ratio = PerplexityRatio(f);
  const double wanted = kCompressionShare / options.budget;
  const double in_time = Share(s.in_time(), s.predicted());
  double load[1] = {0};
  getloadavg(load, 1);
  std::printf("\n");
  bool good = true;
  good &= Check(Compression(s) >= wanted,
                Format("compression %.2f, at least %.1f", Compression(s),
                       wanted));
  Goal(ratio <= kPerplexityRatioMax,
       Format("perplexity %.1f %% above exact; the goal is %.0f %% (see "
              "docs/QUALITY.md)",
              (ratio - 1) * 100, (kPerplexityRatioMax - 1) * 100));
  good &= Check(f.facts_both == f.exact.facts,
                Format("%d of the %d facts that exact recalls are recalled",
                       f.facts_both, f.exact.facts));
  good &= Check(f.wrong_blocks == 0,
                Format("%.0f wrong blocks", f.wrong_blocks));
  good &= Check(in_time >= kInTimeMin,
                Format("%.2f %% of predicted blocks in time, at least %.0f %% "
                       "(load average %.2f)",
                       in_time * 100, kInTimeMin * 100, load[0]));
  good &= Check(f.warm_seconds <= kWarmRatioMax * f.cold_seconds,
                Format("warm first token in %.1f %% of cold, at most %.0f %%",
                       100 * f.warm_seconds / f.cold_seconds,
                       kWarmRatioMax * 100));
  good &= Check(f.no_prefetch.late() > 0,
                Format("without the push %s blocks were late",
                       Count(f.no_prefetch.late()).c_str()));
  good &= Check(f.stream_facts < f.exact.facts,
                Format("without prediction %d facts are left of %d",
                       f.stream_facts, f.exact.facts));
  good &= Check(
      CountersAgree(f),
      Format("store pushed %s blocks, worker received %s; probes %s and %s",
             Count(f.store.blocks_pushed()).c_str(),
             Count(f.worker.blocks_received()).c_str(),
             Count(f.store.probes()).c_str(),
             Count(f.worker.probes()).c_str()));
  good &= Check(f.kill.same_answer,
                Format("the store was killed and came back: the answer paused "
                       "%.0f ms and is the undisturbed one",
                       f.kill.pause_ms));
  good &= Check(f.flip.refused >= 1 && f.flip.same_answer,
                Format("a flipped bit: %.0f blocks refused, and the answer is "
                       "the same",
                       f.flip.refused));
  return good;
}

absl::Status WriteJson(const Options& options, const Findings& f,
                       double demo_seconds) {
  if (options.json.empty()) return absl::OkStatus();
  const v1::Summary& e = f.exact.continuation.summary;
  const v1::Summary& s = f.sparse.continuation.summary;
  Json json;
  json["context_tokens"] = s.prompt_tokens();
  json["budget_blocks"] = s.budget_blocks();
  json["context_blocks"] = s.context_blocks();
  json["compression"] = Compression(s);
  json["exact"] = {{"ppl", f.exact.continuation.Perplexity()},
                   {"facts", f.exact.facts},
                   {"tokens_per_s", f.exact.continuation.TokensPerSecond()},
                   {"resident_bytes", e.resident_bytes()}};
  json["sparse"] = {{"ppl", f.sparse.continuation.Perplexity()},
                    {"facts", f.sparse.facts},
                    {"tokens_per_s", f.sparse.continuation.TokensPerSecond()},
                    {"resident_bytes", s.resident_bytes()},
                    {"history_bytes", s.history_bytes()},
                    {"tail_bytes", s.tail_bytes()},
                    {"table_bytes", s.table_bytes()},
                    {"predicted", s.predicted()},
                    {"in_time", s.in_time()},
                    {"late", s.late()},
                    {"missed", s.missed()},
                    {"corrected", s.corrected()},
                    {"corrections_late", s.corrections_late()},
                    {"bytes_per_token", BytesPerToken(s)}};
  json["wrong_blocks"] = f.wrong_blocks;
  json["transport"] = s.transport();
  json["isa"] = s.isa();
  json["predictor"] = s.predictor();
  json["facts_both"] = f.facts_both;
  json["first_token"] = {{"cold_s", f.cold_seconds},
                         {"warm_s", f.warm_seconds},
                         {"warm_cached_tokens", f.warm_cached_tokens}};
  json["no_prefetch"] = {{"predicted", f.no_prefetch.predicted()},
                         {"late", f.no_prefetch.late()}};
  json["stream"] = {{"facts", f.stream_facts}};
  json["perplexity_ratio"] = PerplexityRatio(f);
  json["perplexity_goal_met"] = PerplexityRatio(f) <= kPerplexityRatioMax;
  json["kill"] = {{"same_answer", f.kill.same_answer},
                  {"pause_ms", f.kill.pause_ms}};
  json["flip"] = {{"refused", f.flip.refused},
                  {"same_answer", f.flip.same_answer},
                  {"recomputed_tokens", f.flip.recomputed_tokens}};
  json["counters_agree"] = CountersAgree(f);
  json["staging_bytes"] = s.staging_bytes();
  json["demo_seconds"] = demo_seconds;
  std::ofstream file(options.json);
  file << json.dump(2) << "\n";
  file.close();
  if (!file) {
    return absl::UnavailableError(
        absl::StrCat("--json: cannot write ", options.json));
  }
  return absl::OkStatus();
}

}  // namespace forecache::demo
