// Runs one fuzz target: its seeds, then mutations of them, for so long.
//
//   NAME [--seconds N] [--seed N]   (or FORECACHE_FUZZ_SECONDS; 2 without)
//   NAME FILE...                    only these inputs, such as a saved one
//
// The same seed tries the same inputs in the same order.  Built with
// -fsanitize-coverage=trace-pc (bazel's --config=fuzz), inputs that reach new
// code become seeds themselves.  An input that aborts, or takes kInputSeconds,
// is saved and named, and the exit is not 0.
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>

#include "common/clock.h"
#include "common/log.h"
#include "tests/fuzz/mutator.h"

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kHasAsan = true;
#else
constexpr bool kHasAsan = false;
#endif

extern "C" {
// A report must end in our handler, which saves the input.
const char* __asan_default_options() {
  return "abort_on_error=1:detect_leaks=0:max_allocation_size_mb=2048";
}
const char* __ubsan_default_options() {
  return "halt_on_error=1:abort_on_error=1:print_stacktrace=1";
}
}

namespace {

constexpr unsigned kInputSeconds = 20;  // sanitizers are slow, not that slow
constexpr size_t kCoverageBytes = 1 << 16;
constexpr size_t kCorpusMax = 4096;
constexpr rlim_t kMemoryBytesMax = rlim_t{4} << 30;

// Both are written by what the compiler puts into every branch.
uint8_t edges[kCoverageBytes];
thread_local uintptr_t last_place = 0;
bool has_coverage = false;

// What the handler needs.
const uint8_t* current_data = nullptr;
size_t current_size = 0;
uint64_t current_iteration = 0;
uint64_t current_seed = 0;
char save_path[512];

void OnFailure(int signal_number) {
  char text[768];
  const int length = std::snprintf(
      text, sizeof(text),
      "fuzz: FAILED with signal %d at input %llu of seed %llu; saved as %s\n",
      signal_number, static_cast<unsigned long long>(current_iteration),
      static_cast<unsigned long long>(current_seed), save_path);
  const int file = open(save_path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  if (file >= 0) {
    [[maybe_unused]] ssize_t put = write(file, current_data, current_size);
    close(file);
  }
  [[maybe_unused]] ssize_t told = write(STDERR_FILENO, text, length);
  _exit(1);
}

void CatchFailures(const char* program) {
  const char* folder = std::getenv("TEST_UNDECLARED_OUTPUTS_DIR");
  const char* name = std::strrchr(program, '/');
  std::snprintf(save_path, sizeof(save_path), "%s/%s.input",
                folder != nullptr ? folder : ".",
                name != nullptr ? name + 1 : program);
  signal(SIGABRT, OnFailure);
  signal(SIGALRM, OnFailure);
  if (kHasAsan) return;  // it reports the others, then aborts
  for (int number : {SIGSEGV, SIGBUS, SIGFPE, SIGILL}) {
    signal(number, OnFailure);
  }
  // A length that nobody checked should not take the machine down.
  const rlimit memory = {kMemoryBytesMax, kMemoryBytesMax};
  setrlimit(RLIMIT_AS, &memory);
}

}  // namespace

#if defined(__GNUC__) && !defined(__clang__)
extern "C" __attribute__((no_sanitize_coverage)) void
__sanitizer_cov_trace_pc() {
  const auto place = reinterpret_cast<uintptr_t>(__builtin_return_address(0));
  edges[(place ^ last_place) % kCoverageBytes] = 1;
  last_place = place >> 1;
  has_coverage = true;
}
#endif

namespace forecache::fuzz {
namespace {

// Threads: one.
class Driver {
 public:
  explicit Driver(uint64_t seed) : corpus_(Seeds()) { current_seed = seed; }

  // Returns how many inputs were tried.
  uint64_t Run(Nanos duration) {
    const size_t seeds = corpus_.size();
    for (size_t i = 0; i < seeds; ++i, ++current_iteration) {
      const Bytes input = corpus_[i];
      Try(input);
    }
    const Nanos end = Clock::Real()->Now() + duration;
    while (Clock::Real()->Now() < end) {
      Rng rng(current_seed * 0x9E3779B97F4A7C15u + current_iteration);
      Bytes input = corpus_[rng.Below(corpus_.size())];
      Mutate(corpus_, &input, &rng);
      if (rng.Below(4) != 0) Repair(&input, &rng);
      if (Try(input) && corpus_.size() < kCorpusMax) corpus_.push_back(input);
      ++current_iteration;
    }
    return current_iteration;
  }

  // Whether the input reached something new.
  bool Try(const Bytes& input) {
    // Of its own size, so that a byte too far shows.
    const Bytes exact(input);
    current_data = exact.data();
    current_size = exact.size();
    alarm(kInputSeconds);
    std::memset(edges, 0, has_coverage ? sizeof(edges) : 0);
    LLVMFuzzerTestOneInput(exact.data(), exact.size());
    alarm(0);
    bool is_new = false;
    for (size_t i = 0; has_coverage && i < kCoverageBytes; ++i) {
      if (edges[i] == 0 || seen_[i] != 0) continue;
      seen_[i] = 1;
      is_new = true;
      ++covered_;
    }
    return is_new;
  }

  size_t corpus() const { return corpus_.size(); }
  size_t covered() const { return covered_; }

 private:
  std::vector<Bytes> corpus_;
  Bytes seen_ = Bytes(kCoverageBytes);
  size_t covered_ = 0;
};

int Main(int argc, char** argv) {
  const char* seconds = std::getenv("FORECACHE_FUZZ_SECONDS");
  long duration_s = seconds != nullptr ? std::atol(seconds) : 2;
  uint64_t seed = 1;
  std::vector<std::string> files;
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag == "--seconds" && i + 1 < argc) {
      duration_s = std::atol(argv[++i]);
    } else if (flag == "--seed" && i + 1 < argc) {
      seed = std::strtoull(argv[++i], nullptr, 10);
    } else if (flag.starts_with("--")) {
      std::fprintf(stderr, "usage: %s [--seconds N] [--seed N] [FILE...]\n",
                   argv[0]);
      return 2;
    } else {
      files.push_back(flag);
    }
  }
  CatchFailures(argv[0]);
  InitLog("fuzz", LogLevel::kError);  // what is refused is no news here
  Driver driver(seed);
  for (const std::string& path : files) {
    std::ifstream file(path, std::ios::binary);
    const std::vector<char> bytes{std::istreambuf_iterator<char>(file), {}};
    driver.Try(Bytes(bytes.begin(), bytes.end()));
  }
  if (!files.empty()) return 0;
  const uint64_t tried = driver.Run(duration_s * kSecond);
  std::printf("fuzz: %llu inputs of seed %llu, %zu seeds at the end, "
              "%zu edges\n",
              static_cast<unsigned long long>(tried),
              static_cast<unsigned long long>(seed), driver.corpus(),
              driver.covered());
  return 0;
}

}  // namespace
}  // namespace forecache::fuzz

int main(int argc, char** argv) { return forecache::fuzz::Main(argc, argv); }
