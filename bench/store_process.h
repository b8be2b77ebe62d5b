// How benchmarks start stores as processes.
#ifndef FORECACHE_BENCH_STORE_PROCESS_H_
#define FORECACHE_BENCH_STORE_PROCESS_H_

#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/statusor.h"
#include "demo/processes.h"
#include "transport/ucx_transport.h"

namespace forecache {

// The flags of a benchmark that starts stores with SSD.
struct StoreProcessFlags {
  void AddTo(CLI::App* flags);
  // Where demo::Processes makes its folder.  After flags were parsed.
  void UseDir() const;
  std::string binary() const { return bin_dir + "/kvstore/store"; }

  std::string bin_dir;
  std::string dir;
  UcxOptions ucx;
};

// A store on a core of its own; the caller is on the worker's afterwards.
absl::StatusOr<demo::Daemon> StartPinned(demo::Processes* processes,
                                         const std::string& name,
                                         const std::string& binary,
                                         const std::vector<std::string>& flags);

}  // namespace forecache

#endif  // FORECACHE_BENCH_STORE_PROCESS_H_
