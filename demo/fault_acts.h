// The acts in which something breaks, and the answer is right all the same.
#ifndef FORECACHE_DEMO_FAULT_ACTS_H_
#define FORECACHE_DEMO_FAULT_ACTS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "demo/acts.h"
#include "demo/client.h"
#include "demo/processes.h"
#include "demo/story.h"

namespace forecache::demo {

// The store, and what starts it again as it was.
struct StoreProcess {
  Daemon daemon;
  std::string binary;
  std::vector<std::string> flags;
};

// Threads: one thread at a time.
class FaultActs {
 public:
  FaultActs(const Options& options, const Story& story, Client* client,
            Processes* processes, StoreProcess* store)
      : options_(options),
        story_(story),
        client_(client),
        processes_(processes),
        store_(store) {}

  absl::Status Run(Findings* findings);

 private:
  absl::Status Kill(Findings* findings);
  absl::Status Flip(Findings* findings);
  absl::Status RestartStore();
  v1::GenerateRequest Continuation() const;
  v1::GenerateRequest Question(const std::string& request_id) const;

  const Options& options_;
  const Story& story_;
  Client* const client_;
  Processes* const processes_;
  StoreProcess* const store_;
};

}  // namespace forecache::demo

#endif  // FORECACHE_DEMO_FAULT_ACTS_H_
