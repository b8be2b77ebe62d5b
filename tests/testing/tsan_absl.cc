// Tells the thread sanitizer of absl's locks, which Debian built without it.
//
// Each function here stands before the library's own of the same name, calls
// it, and says what it orders.  Only builds with the sanitizer have them.
#if defined(__SANITIZE_THREAD__)

#include <dlfcn.h>

#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"

extern "C" {
void __tsan_acquire(void* address);
void __tsan_release(void* address);
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
}

namespace {

// The function of this name in the library.
template <typename Function>
Function* Next(const char* mangled) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, mangled));
}

// absl asks for the conditions of threads that wait in whatever thread lets the
// lock go: with the lock held, but after it was told here that it was not.
class IgnoreReads {
 public:
  IgnoreReads() { AnnotateIgnoreReadsBegin(__FILE__, __LINE__); }
  ~IgnoreReads() { AnnotateIgnoreReadsEnd(__FILE__, __LINE__); }
};

}  // namespace

#define FC_ABSL(suffix) "_ZN4absl7debian3" suffix
#define FC_ABSL_CONST(suffix) "_ZNK4absl7debian3" suffix

namespace absl {
ABSL_NAMESPACE_BEGIN

void Mutex::Lock() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  static auto* next = Next<void(Mutex*)>(FC_ABSL("5Mutex4LockEv"));
  {
    IgnoreReads ignore;
    next(this);
  }
  __tsan_acquire(this);
}

void Mutex::LockWhen(const Condition& condition)
    ABSL_NO_THREAD_SAFETY_ANALYSIS {
  static auto* next = Next<void(Mutex*, const Condition&)>(
      FC_ABSL("5Mutex8LockWhenERKNS0_9ConditionE"));
  {
    IgnoreReads ignore;
    next(this, condition);
  }
  __tsan_acquire(this);
}

void Mutex::Unlock() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  static auto* next = Next<void(Mutex*)>(FC_ABSL("5Mutex6UnlockEv"));
  __tsan_release(this);
  IgnoreReads ignore;
  next(this);
}

bool Mutex::TryLock() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  static auto* next = Next<bool(Mutex*)>(FC_ABSL("5Mutex7TryLockEv"));
  if (!next(this)) return false;
  __tsan_acquire(this);
  return true;
}

void Mutex::ReaderLock() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  static auto* next = Next<void(Mutex*)>(FC_ABSL("5Mutex10ReaderLockEv"));
  {
    IgnoreReads ignore;
    next(this);
  }
  __tsan_acquire(this);
}

void Mutex::ReaderUnlock() ABSL_NO_THREAD_SAFETY_ANALYSIS {
  static auto* next = Next<void(Mutex*)>(FC_ABSL("5Mutex12ReaderUnlockEv"));
  __tsan_release(this);
  IgnoreReads ignore;
  next(this);
}

void Mutex::Await(const Condition& condition) {
  static auto* next = Next<void(Mutex*, const Condition&)>(
      FC_ABSL("5Mutex5AwaitERKNS0_9ConditionE"));
  __tsan_release(this);
  {
    IgnoreReads ignore;
    next(this, condition);
  }
  __tsan_acquire(this);
}

void Notification::Notify() {
  static auto* next =
      Next<void(Notification*)>(FC_ABSL("12Notification6NotifyEv"));
  __tsan_release(this);
  next(this);
}

void Notification::WaitForNotification() const {
  static auto* next = Next<void(const Notification*)>(
      FC_ABSL_CONST("12Notification19WaitForNotificationEv"));
  next(this);
  __tsan_acquire(const_cast<Notification*>(this));
}

ABSL_NAMESPACE_END
}  // namespace absl

#endif  // __SANITIZE_THREAD__
