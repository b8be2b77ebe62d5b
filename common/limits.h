// Every size, queue and wait that is bounded, by name.
//
// A limit that an operator may change is a flag whose default stands here.
#ifndef FORECACHE_COMMON_LIMITS_H_
#define FORECACHE_COMMON_LIMITS_H_

#include <cstddef>
#include <cstdint>

#include "common/clock.h"

namespace forecache {

// --- Geometry -------------------------------------------------------------
inline constexpr int kBlockTokens = 16;
inline constexpr int kSegmentTokens = 256;
inline constexpr int kSegmentBlocks = kSegmentTokens / kBlockTokens;
inline constexpr int kLayersMax = 256;
inline constexpr int kKvHeadsMax = 128;
inline constexpr int kGroupMax = 32;  // query heads of one KV head
inline constexpr int kHeadDimMax = 256;
inline constexpr int kContextTokensMax = 1 << 20;
inline constexpr int kContextBlocksMax = kContextTokensMax / kBlockTokens;

// --- Data plane -----------------------------------------------------------
inline constexpr size_t kMessageBytesMax = size_t{4} << 20;
inline constexpr size_t kPushBytesMax = size_t{256} << 10;  // one packed push
inline constexpr int kRequestsInFlightMax = 4096;           // of one peer
// Bytes of pushes under way to a worker: what it announces, and what it may.
inline constexpr uint64_t kPushCreditBytes = uint64_t{16} << 20;
inline constexpr uint64_t kPushCreditMin = uint64_t{1} << 20;
inline constexpr uint64_t kPushCreditMax = uint64_t{1} << 30;
inline constexpr Nanos kPushCreditTimeout = kSecond;
inline constexpr Nanos kRequestTimeout = 10 * kSecond;
inline constexpr Nanos kConnectTimeout = 5 * kSecond;
inline constexpr int kStoresMax = 64;  // that share a context
// For one store's part of a probe: so long, and as long as a slow one scans.
inline constexpr Nanos kProbeShardWait = 50 * kMillisecond;
inline constexpr double kProbeShardBytesPerSecond = 4e9;  // of 16-bit keys
inline constexpr Nanos kStoreSilence = 2 * kSecond;  // then others serve
// How long an answer waits for a store that is alone and died.
inline constexpr Nanos kStoreRecovery = 15 * kSecond;
inline constexpr size_t kKeptPutBytesMax = size_t{1} << 30;  // not durable yet
inline constexpr int kRestoresInFlightMax = 64;
inline constexpr Nanos kStoreCheckInterval = 50 * kMillisecond;
inline constexpr Nanos kReconnectFirst = 100 * kMillisecond;
inline constexpr Nanos kReconnectMost = 5 * kSecond;
inline constexpr Nanos kReconnectStable = 30 * kSecond;  // forgives failures
inline constexpr int kPushBuffers = 64;         // of kPushBytesMax, of a store
inline constexpr int kPeerPushBuffers = 16;     // of them, of one peer
inline constexpr int kProbeReplyBuffers = 4;    // of kMessageBytesMax
inline constexpr int kQueuedFetchesMax = 1024;  // of a store, all peers
inline constexpr int kQueuedProbesMax = 256;
inline constexpr int kQueuedCorrectionsMax = 256;
inline constexpr int kScanThreadsMax = 64;       // of a store
inline constexpr int kCorrectionSlotsMax = 64;  // offered for one KV head
inline constexpr int kCorrectionBuffers = 16;   // pushes of corrections only
inline constexpr int kUrgentRequests = 64;  // of kRequestsInFlightMax, reserved
// A peer with so many faulty messages within the window is cut off.
inline constexpr int kPeerFaultsMax = 1024;
inline constexpr Nanos kPeerFaultWindow = 10 * kSecond;
inline constexpr size_t kQueuedRequestBytesMax = size_t{64} << 20;
// Of puts that wait for room in a store; a tenant's: half of it.  A worker has
// a chunk of a prompt under way (64 MiB for 32 layers of 8 KV heads, d=128).
inline constexpr size_t kWaitingPutBytesMax = size_t{512} << 20;
inline constexpr Nanos kProgressSpin = 20 * kMicrosecond;  // after activity
inline constexpr size_t kEndpointsMax = 4096;     // of one transport
inline constexpr size_t kRemoteRegionsMax = 1024;  // known of one peer
inline constexpr size_t kReceiveBytesMax = size_t{64} << 20;  // by rendezvous
inline constexpr size_t kReceiveIdleBytesMax = size_t{32} << 20;
inline constexpr Nanos kTransportProbeTimeout = 300 * kMillisecond;
inline constexpr int kTransportPeersExported = 32;  // in metrics, at once
inline constexpr size_t kMailboxesMax = 64;  // of one transport, 5 MiB each

// --- Control plane --------------------------------------------------------
inline constexpr int kGrpcMessageBytesMax = 64 << 20;
inline constexpr Nanos kRpcTimeout = 5 * kSecond;
inline constexpr int kSessionsMax = 4096;
inline constexpr Nanos kSessionIdleTimeout = 600 * kSecond;
inline constexpr Nanos kHelloGrantTimeout = 30 * kSecond;  // Attach to HELLO
inline constexpr int kHelloGrantsMax = 1024;  // of a tenant, in that time
inline constexpr size_t kPemBytesMax = size_t{1} << 20;  // keys, certificates
inline constexpr size_t kTenantsMax = 256;  // configured, domains included
inline constexpr size_t kTenantNameBytesMax = 64;
inline constexpr size_t kTenantsFileBytesMax = size_t{4} << 20;
inline constexpr uint64_t kTierBytesMax = uint64_t{1} << 50;
inline constexpr int kTenantShareMax = 1000;
inline constexpr size_t kTenantDomainsMax = 16;  // that one tenant may use
inline constexpr int kTenantsExported = 32;      // in metrics, by name
inline constexpr size_t kTenantNamesMax = 4096;  // seen since the start
inline constexpr int kNameBytesMax = 128;  // of a worker, of a request's id
inline constexpr Nanos kDrainTimeoutDefault = 20 * kSecond;  // of a store
inline constexpr Nanos kDrainTimeoutMax = 3600 * kSecond;
// Uses that an eviction policy learns from, so also the segments that it
// remembers without holding them.
inline constexpr size_t kEvictionHistoryMax = 65536;
inline constexpr Nanos kHeartbeatInterval = 10 * kSecond;  // in the logs

// --- SSD tier ---------------------------------------------------------------
inline constexpr size_t kSsdPageBytes = 4096;  // unit of reads and writes
inline constexpr size_t kSsdExtentBytes = size_t{1} << 20;
inline constexpr int kSsdQueueDepth = 64;     // of one batch of operations
inline constexpr int kSsdLanesMax = 16;       // batches of reads at once
inline constexpr int kSsdReadThreads = 4;     // that read for pushes
inline constexpr size_t kSsdLaneBytes = size_t{512} << 10;
inline constexpr int kSsdWriteSlices = 4;     // of an extent, under way at once
// Kept for RocksDB, of every tier's bytes, and of a large one's 1/256.
inline constexpr size_t kSsdMetadataBytesMin = size_t{4} << 20;
inline constexpr size_t kSsdMetadataShare = 256;
inline constexpr size_t kSsdRecordBytesMax = size_t{1} << 20;
inline constexpr int kSsdTenantBytesMax = 255;
inline constexpr size_t kSsdDemotionsMax = 256;  // segments to be written
inline constexpr size_t kSsdDeferredMax = 16384;  // until there is a place
inline constexpr Nanos kSsdRoomWait = kSecond;  // for one of them
inline constexpr Nanos kSsdDurableWait = 4 * kSecond;  // < kRpcTimeout
inline constexpr Nanos kSsdLoadsFirst = 10 * kMillisecond;  // a write's wait
inline constexpr size_t kSsdTouchedMax = 4096;  // uses not written down yet
inline constexpr size_t kSsdPromotionsMax = 1024;
inline constexpr size_t kSsdScrubBytesPerSecond = size_t{4} << 20;
inline constexpr size_t kSsdScrubStepBytes = size_t{1} << 20;
inline constexpr Nanos kSsdIdleWait = kSecond;
// From a failed write to the first try, and between tries, doubled each time.
inline constexpr Nanos kSsdReviveWaitFirst = 5 * kSecond;
inline constexpr Nanos kSsdReviveWaitMost = 300 * kSecond;

// --- Worker ---------------------------------------------------------------
inline constexpr int kPrefillChunkTokens = 512;
inline constexpr int kPrefillTries = 3;  // a stored block may be damaged
inline constexpr int kModelThreadsMax = 512;
inline constexpr size_t kPromptBytesMax = size_t{8} << 20;
inline constexpr int kPassSizesMax = 8;        // whose graphs are kept
inline constexpr int kBf16PassTokensMin = 8;   // fewer: weights as stored
inline constexpr int kQueuedRequestsMax = 64;
inline constexpr int kArenaMibMax = 1 << 20;
inline constexpr int kThreadsMax = 256;
inline constexpr int kCommandQueueMax = 1024;
inline constexpr Nanos kLateDeadlineDefault = 2 * kSecond;
// Traffic of a session: blocks a (layer, KV head, token), the bounds of the
// floor that holds it, and how many tokens of nothing lower that by a factor e.
inline constexpr int kTrafficTargetMax = kCorrectionSlotsMax;
inline constexpr float kTrafficFloorLeast = 1e-5f;
inline constexpr float kTrafficFloorMost = 4.0f;  // above 1 nothing moves
inline constexpr int kTrafficFollowTokens = 8;

}  // namespace forecache

#endif  // FORECACHE_COMMON_LIMITS_H_
