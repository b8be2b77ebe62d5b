#include "transport/transport.h"

namespace forecache {

const char* TransportOperationName(TransportOperation operation) {
  switch (operation) {
    case TransportOperation::kAuto:
      return "auto";
    case TransportOperation::kMailbox:
      return "mailbox";
    case TransportOperation::kEager:
      return "eager";
    case TransportOperation::kRendezvous:
      return "rendezvous";
    case TransportOperation::kPut:
      return "put";
    case TransportOperation::kGet:
      return "get";
  }
  return "unknown";
}

}  // namespace forecache
