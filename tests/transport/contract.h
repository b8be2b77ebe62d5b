// What the contract tests run on: each implementation of Transport, in pairs.
#ifndef FORECACHE_TESTS_TRANSPORT_CONTRACT_H_
#define FORECACHE_TESTS_TRANSPORT_CONTRACT_H_

#include <memory>
#include <string>

#include "common/check.h"
#include "gtest/gtest.h"
#include "tests/transport/testing.h"
#include "transport/faulty_transport.h"
#include "transport/loopback_transport.h"
#include "transport/ucx_transport.h"

namespace forecache {

struct LoopbackMaker {
  static constexpr char kName[] = "Loopback";
  static std::unique_ptr<Transport> Make() {
    return std::make_unique<LoopbackTransport>();
  }
};

// Without faults, the wrapper must not show.
struct FaultyMaker {
  static constexpr char kName[] = "Faulty";
  static std::unique_ptr<Transport> Make() {
    return std::make_unique<FaultyTransport>(
        std::make_unique<LoopbackTransport>(), FaultOptions());
  }
};

template <typename Kind>
struct UcxMaker {
  static constexpr const char* kName = Kind::kName;
  static std::unique_ptr<Transport> Make() {
    UcxOptions options;
    options.transports = Kind::kTransports;
    options.tcp_rendezvous = Kind::kRendezvous;
    auto transport = OpenUcxTransport(options);
    FC_CHECK_OK(transport.status());
    return *std::move(transport);
  }
};
struct Shm {
  static constexpr char kName[] = "UcxShm";
  static constexpr char kTransports[] = "all";
  static constexpr bool kRendezvous = false;
};
struct Tcp {
  static constexpr char kName[] = "UcxTcp";
  static constexpr char kTransports[] = "tcp";
  static constexpr bool kRendezvous = false;
};
struct TcpRendezvous {
  static constexpr char kName[] = "UcxTcpRendezvous";
  static constexpr char kTransports[] = "tcp";
  static constexpr bool kRendezvous = true;
};

using Makers = testing::Types<LoopbackMaker, FaultyMaker, UcxMaker<Shm>,
                              UcxMaker<Tcp>, UcxMaker<TcpRendezvous>>;

struct MakerNames {
  template <typename Maker>
  static std::string GetName(int) {
    return Maker::kName;
  }
};

// Two transports, driven by the test's own thread.
//
// Threads: one.
template <typename Maker>
class ContractTest : public testing::Test {
 protected:
  Node a_{Maker::Make()};
  Node b_{Maker::Make()};

  Endpoint* ConnectAToB() {
    auto endpoint = a_.transport->Connect(b_.transport->Address());
    FC_CHECK_OK(endpoint.status());
    return *endpoint;
  }
  // Sends one message from a to b and waits for it: wires the endpoint up.
  Endpoint* Wired() {
    Endpoint* endpoint = ConnectAToB();
    EXPECT_TRUE(endpoint->Send({}, ToBytes("hello"), nullptr).ok());
    EXPECT_TRUE(Pump({&a_, &b_}, [&] { return b_.heard.count == 1; }));
    Settle({&a_, &b_});
    b_.heard.messages.clear();
    b_.heard.count = 0;
    return endpoint;
  }
};

}  // namespace forecache

#endif  // FORECACHE_TESTS_TRANSPORT_CONTRACT_H_
