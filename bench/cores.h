// Which core a benchmark's processes run on: the client's side on one, stores
// on the others.
#ifndef FORECACHE_BENCH_CORES_H_
#define FORECACHE_BENCH_CORES_H_

namespace forecache {

// Keeps this thread, and what it starts from now on, to one core; core numbers
// wrap round at what the machine has.
void PinToCore(int core);
inline constexpr int kWorkerCore = 0;
// Of a store's process, from 0: never the worker's where there are two.
int StoreCore(int store);

}  // namespace forecache

#endif  // FORECACHE_BENCH_CORES_H_
