// The demo's daemons: started on free ports, in a folder of their own, and
// gone when the demo is, however it ends.
#ifndef FORECACHE_DEMO_PROCESSES_H_
#define FORECACHE_DEMO_PROCESSES_H_

#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace forecache::demo {

// A running daemon.
struct Daemon {
  std::string name;
  pid_t pid = -1;
  std::string grpc;     // host:port
  std::string metrics;
  std::string admin;  // a store's; "" where there is none  // host:port
};

// Threads: one thread, and its own signal thread.
class Processes {
 public:
  // Makes the temporary folder, and from now on turns SIGINT and SIGTERM into
  // a clean end of the whole process.  REQUIRES: before any other thread.
  Processes();
  // Stops all daemons (SIGTERM, then SIGKILL) and removes the folder.  Does not
  // return when interrupted: the signal's end is the process's.
  ~Processes();
  Processes(const Processes&) = delete;
  Processes& operator=(const Processes&) = delete;

  // Starts `binary arguments... --ready-file F` and waits until it serves.
  // kUnavailable with the end of its log when it does not.
  absl::StatusOr<Daemon> Start(const std::string& name,
                               const std::string& binary,
                               std::vector<std::string> arguments);

  // Ends a daemon at once (SIGKILL).  Start may then start it again by its
  // name.
  void Kill(const Daemon& daemon);

  // Where daemons may keep files: gone when this is.
  const std::string& folder() const { return folder_; }

  // Whether SIGINT or SIGTERM is ending the process: then what fails, fails
  // because its daemon was stopped.
  static bool Interrupted();

  // The end of a daemon's log: for error messages.
  std::string LogTail(const std::string& name) const;

 private:
  std::string LogPath(const std::string& name) const;

  std::string folder_;
  std::vector<Daemon> daemons_;
};

// What a daemon's /metrics say; "" when it does not answer.  `address`:
// host:port, the host a number.
std::string FetchMetrics(const std::string& address);

// Bytes of resident memory of a process, 0 when it is gone.
size_t ResidentMemory(pid_t pid);

}  // namespace forecache::demo

#endif  // FORECACHE_DEMO_PROCESSES_H_
