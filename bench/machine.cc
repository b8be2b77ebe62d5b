#include "bench/machine.h"

#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"

namespace forecache {
namespace {

constexpr double kGiB = 1 << 30;
constexpr double kMemoryGiBMin = 4;
constexpr double kDiskGiBMin = 10;
constexpr double kShmGiBMin = 0.25;

// The first line of `path`, empty where there is none.
std::string FirstLine(const std::string& path) {
  std::string line;
  std::ifstream file(path);
  std::getline(file, line);
  return line;
}

// What follows "key" and a colon in a file of such lines.
std::string ValueOf(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!absl::StartsWith(line, key)) continue;
    const size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    return std::string(
        absl::StripAsciiWhitespace(line.substr(colon + 1)));
  }
  return "";
}

std::string Output(const std::string& command) {
  FILE* pipe = popen(absl::StrCat(command, " 2>/dev/null").c_str(), "r");
  if (pipe == nullptr) return "";
  std::string text;
  std::array<char, 4096> bytes;
  while (size_t count = fread(bytes.data(), 1, bytes.size(), pipe)) {
    text.append(bytes.data(), count);
  }
  pclose(pipe);
  return text;
}

double FreeGiB(const std::filesystem::path& path) {
  // The folder itself may not be there yet.
  std::error_code error;
  std::filesystem::path existing = path;
  while (!existing.empty() && !std::filesystem::exists(existing, error)) {
    existing = existing.parent_path();
  }
  const auto space = std::filesystem::space(existing, error);
  return error ? 0 : space.available / kGiB;
}

// The version in the file name of a shared library, "" when it is not there.
std::string LibraryVersion(const std::string& known, const std::string& name) {
  std::istringstream lines(known);
  for (std::string line; std::getline(lines, line);) {
    const size_t arrow = line.find("=> ");
    if (!absl::StrContains(line, absl::StrCat(name, ".so")) ||
        arrow == std::string::npos) {
      continue;
    }
    std::error_code error;
    const std::string file =
        std::filesystem::canonical(line.substr(arrow + 3), error).filename();
    const size_t version = file.find(".so.");
    if (!error && version != std::string::npos) return file.substr(version + 4);
  }
  return "";
}

}  // namespace

std::string LevelName(FindingLevel level) {
  switch (level) {
    case FindingLevel::kOk:
      return "ok";
    case FindingLevel::kNote:
      return "note";
    case FindingLevel::kWarn:
      return "warn";
    case FindingLevel::kMissing:
      return "missing";
  }
  return "";
}

void FindProcessor(Findings& findings) {
  const unsigned cores = std::thread::hardware_concurrency();
  Finding found = {"cores", FindingLevel::kOk, absl::StrCat(cores), ""};
  if (cores < 4) {
    found.level = FindingLevel::kNote;
    found.fix = "give store and worker two cores each for steady latencies";
  }
  findings.push_back(found);

  findings.push_back({"processor", FindingLevel::kOk,
                      ValueOf("/proc/cpuinfo", "model name"), ""});
  std::istringstream flags(ValueOf("/proc/cpuinfo", "flags"));
  std::set<std::string> known;
  for (std::string flag; flags >> flag;) known.insert(flag);
  std::vector<std::string> present;
  for (const char* flag : {"avx2", "fma", "avx512f", "avx512_vnni",
                           "avx512_bf16", "amx_bf16"}) {
    if (known.contains(flag)) present.push_back(flag);
  }
  found = {"instructions", FindingLevel::kOk,
           present.empty() ? "none that matter" : absl::StrJoin(present, " "),
           ""};
  if (!known.contains("avx2")) {
    found.level = FindingLevel::kWarn;
    found.fix = "without AVX2 the kernels run scalar code: use a newer CPU "
                "(or the virtual machine's \"host\" CPU model)";
  } else if (!known.contains("avx512_vnni")) {
    found.level = FindingLevel::kNote;
    found.fix = "probes scan faster with AVX-512 VNNI (Ice Lake, Zen 4, later)";
  }
  findings.push_back(found);
}

void FindMemory(Findings& findings) {
  double kib = 0;
  (void)absl::SimpleAtod(
      absl::StripSuffix(ValueOf("/proc/meminfo", "MemAvailable"), " kB"), &kib);
  const double gib = kib / (1 << 20);
  Finding found = {"memory", FindingLevel::kOk,
                   absl::StrFormat("%.1f GiB available", gib), ""};
  if (gib < kMemoryGiBMin) {
    found.level = FindingLevel::kWarn;
    found.fix = absl::StrFormat("free memory: the demo wants %.0f GiB",
                                kMemoryGiBMin);
  }
  findings.push_back(found);

  rlimit limit = {};
  getrlimit(RLIMIT_MEMLOCK, &limit);
  const bool unlimited = limit.rlim_cur == RLIM_INFINITY;
  found = {"locked memory", FindingLevel::kOk,
           unlimited ? "unlimited"
                     : absl::StrFormat("%d KiB", limit.rlim_cur >> 10),
           ""};
  if (!unlimited) {
    found.level = FindingLevel::kNote;
    found.fix = "RDMA registers memory: ulimit -l unlimited "
                "(LimitMEMLOCK=infinity in a unit); TCP needs nothing";
  }
  findings.push_back(found);

  const std::string mode =
      FirstLine("/sys/kernel/mm/transparent_hugepage/enabled");
  const std::string reserved = FirstLine("/proc/sys/vm/nr_hugepages");
  found = {"huge pages", FindingLevel::kOk,
           absl::StrCat("transparent: ", mode.empty() ? "unknown" : mode,
                        "; reserved: ", reserved),
           ""};
  if (mode.empty() || absl::StrContains(mode, "[never]")) {
    found.level = FindingLevel::kNote;
    found.fix = "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled";
  }
  findings.push_back(found);
}

void FindStorage(Findings& findings) {
  const char* cache = getenv("FORECACHE_CACHE");
  const char* home = getenv("HOME");
  const std::string folder =
      cache != nullptr
          ? cache
          : absl::StrCat(home != nullptr ? home : "", "/.cache/forecache");
  const double gib = FreeGiB(folder);
  Finding found = {"disk", FindingLevel::kOk,
                   absl::StrFormat("%.0f GiB free for %s", gib, folder), ""};
  if (gib < kDiskGiBMin) {
    found.level = FindingLevel::kWarn;
    found.fix = absl::StrFormat(
        "free %.0f GiB, or point FORECACHE_CACHE elsewhere", kDiskGiBMin);
  }
  findings.push_back(found);

  struct statvfs shm = {};
  const bool there = statvfs("/dev/shm", &shm) == 0;
  const double shm_gib = there ? 1.0 * shm.f_blocks * shm.f_frsize / kGiB : 0;
  found = {"/dev/shm", FindingLevel::kOk,
           absl::StrFormat("%.2f GiB", shm_gib), ""};
  if (shm_gib < kShmGiBMin) {
    found.level = FindingLevel::kWarn;
    found.fix = "docker run --shm-size=1g, or a memory emptyDir at /dev/shm "
                "in a pod";
  }
  findings.push_back(found);
}

void FindLibraries(Findings& findings) {
  const std::string known = Output("PATH=$PATH:/sbin:/usr/sbin ldconfig -p");
  for (const auto& [name, library] :
       {std::pair{"gRPC", "libgrpc++"}, {"RocksDB", "librocksdb"}}) {
    const std::string version = LibraryVersion(known, library);
    Finding found = {name, FindingLevel::kOk, version, ""};
    if (version.empty()) {
      found.level = FindingLevel::kMissing;
      found.value = "not found";
      found.fix = "./forecache setup";
    }
    findings.push_back(found);
  }
}

void FindGpu(Findings& findings) {
  const std::string driver = FirstLine("/proc/driver/nvidia/version");
  const bool gpu = access("/dev/nvidia0", R_OK) == 0;
  Finding found = {"GPU", FindingLevel::kOk,
                   driver.empty() ? "yes" : driver, ""};
  if (!gpu) {
    found.level = FindingLevel::kNote;
    found.value = "none";
    found.fix = "none needed: a bounded host arena plays its part";
  }
  findings.push_back(found);

  std::istringstream lines(
      Output("PATH=$PATH:/usr/local/cuda/bin nvcc --version"));
  std::string release;
  for (std::string line; std::getline(lines, line);) {
    const size_t start = line.find("release ");
    if (start != std::string::npos) release = line.substr(start + 8);
  }
  found = {"nvcc", FindingLevel::kOk, release, ""};
  if (release.empty()) {
    found.level = FindingLevel::kNote;
    found.value = "not found";
    found.fix = "install the CUDA toolkit to build the GPU kernels";
  }
  findings.push_back(found);
}

}  // namespace forecache
