// transport/transport_probe.h: frames of a peer that lies, while a probe of it
// runs: the probe ends within its time, once.
#include <cstring>
#include <memory>

#include "common/check.h"
#include "common/testing/fake_clock.h"
#include "tests/fuzz/fuzz.h"
#include "transport/loopback_transport.h"
#include "transport/transport_probe.h"

namespace forecache::fuzz {
namespace {

constexpr uint32_t kMagic = 0x31504346;  // "FCP1"

// A frame as transport_probe.cc has it, and bytes of payload that follow.
struct Frame {
  uint32_t magic;
  uint32_t kind;
  uint32_t step;
  uint32_t expected;
};
static_assert(sizeof(Frame) == 16);

// Threads: one.
class Prober : public MessageHandler {
 public:
  explicit Prober(Transport* transport, Clock* clock)
      : probe(transport, clock) {
    transport->SetHandler(this);
  }
  void OnMessage(Endpoint* from, ByteView header, ByteView payload) override {
    probe.OnMessage(from, header, payload);
    peer = from;
  }
  void OnDisconnect(Endpoint* from, const absl::Status&) override {
    probe.OnDisconnect(from);
    peer = nullptr;
  }
  TransportProbe probe;
  Endpoint* peer = nullptr;
};

// Threads: one.
class Liar : public MessageHandler {
 public:
  void OnMessage(Endpoint*, ByteView, ByteView) override {}
  void OnDisconnect(Endpoint*, const absl::Status&) override { gone = true; }
  bool gone = false;
};

}  // namespace

std::vector<Bytes> Seeds() {
  const Frame session[] = {{kMagic, 1, 0, 0}, {kMagic, 2, 0, 0},
                           {kMagic, 3, 1, 1}, {kMagic, 4, 1, 1},
                           {kMagic, 4, 2, 32}, {kMagic, 4, 3, 1},
                           {kMagic, 3, 9, 2}, {kMagic, 3, 9, 2}};
  return {ToBytes(std::as_bytes(std::span(session)))};
}

void Repair(Bytes* input, Rng*) {
  for (size_t at = 0; at + sizeof(Frame) <= input->size();
       at += sizeof(Frame)) {
    std::memcpy(input->data() + at, &kMagic, sizeof(kMagic));
  }
}

}  // namespace forecache::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace forecache;
  using namespace forecache::fuzz;
  FakeClock clock;
  LoopbackTransport liar_transport;
  Liar liar;
  liar_transport.SetHandler(&liar);
  LoopbackTransport transport;
  Prober prober(&transport, &clock);
  Endpoint* to_prober = *liar_transport.Connect(transport.Address());
  int ended = 0;
  prober.probe.Start(*transport.Connect(liar_transport.Address()),
                     [&](const TransportTable&) { ++ended; });
  const Bytes key(48, 'k');
  for (; size >= sizeof(Frame) && !liar.gone;
       data += sizeof(Frame), size -= sizeof(Frame)) {
    (void)to_prober->Send(
        std::as_bytes(std::span<const uint8_t>(data, sizeof(Frame))),
        View(key).first(data[4] % 2 == 0 ? key.size() : 0),
        [](const absl::Status&) {});
    for (int i = 0; i < 3; ++i) {
      liar_transport.Progress();
      transport.Progress();
    }
    prober.probe.Tick();
  }
  clock.Advance(2 * kTransportProbeTimeout);
  prober.probe.Tick();
  FC_CHECK(ended == 1 && !prober.probe.running()) << ended;
  prober.probe.Stop();
  return 0;
}
