// What the thread sanitizer is not to tell of RocksDB.
//
// Debian's library has its own atomics, which the sanitizer can't see: a block
// that the last of its readers frees looks like one freed under the others.
// Reports without a frame of the library stay.
#if defined(__SANITIZE_THREAD__)

extern "C" const char* __tsan_default_suppressions() {
  return "race:librocksdb.so\n";
}

#endif  // __SANITIZE_THREAD__
