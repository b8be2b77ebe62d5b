#include "bench/store_process.h"

#include <cstdlib>

#include "bench/cores.h"

namespace forecache {

void StoreProcessFlags::AddTo(CLI::App* flags) {
  flags->add_option("--bin-dir", bin_dir, "folder with kvstore/store")
      ->required();
  flags->add_option("--dir", dir, "folder on the SSD; default: TMPDIR, or /tmp")
      ->check(CLI::ExistingDirectory);
  flags->add_option("--transports", ucx.transports,
                    "what UCX may use: all, tcp, shm ...");
}

void StoreProcessFlags::UseDir() const {
  if (!dir.empty()) setenv("TMPDIR", dir.c_str(), 1);
}

absl::StatusOr<demo::Daemon> StartPinned(
    demo::Processes* processes, const std::string& name,
    const std::string& binary, const std::vector<std::string>& flags) {
  PinToCore(StoreCore(0));
  auto store = processes->Start(name, binary, flags);
  PinToCore(kWorkerCore);
  return store;
}

}  // namespace forecache
