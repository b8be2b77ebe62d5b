// The words for what a probe found.
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "transport/transport_probe.h"

namespace forecache {

std::string TransportSizeName(size_t size) {
  return size >= (1 << 20) ? absl::StrCat(size >> 20, "M")
                           : absl::StrCat(size >> 10, "K");
}

std::string FormatTable(const TransportTable& result) {
  std::string table;
  TransportOperation last = TransportOperation::kAuto;
  for (const TransportEntry& entry : result.entries) {
    if (entry.operation != last) {
      absl::StrAppend(&table, table.empty() ? "" : ", ",
                      TransportOperationName(entry.operation));
    }
    last = entry.operation;
    absl::StrAppend(&table, " ", TransportSizeName(entry.size), " ");
    if (entry.status.ok()) {
      absl::StrAppendFormat(&table, "%.2f", entry.bytes_per_second * 1e-9);
    } else {
      absl::StrAppend(&table, absl::IsUnimplemented(entry.status) ? "cannot"
                                                                  : "failed");
    }
  }
  return table;
}

std::string FormatChoices(const TransportTable& result) {
  std::string text;
  for (const TransportChoice& choice : result.choices) {
    absl::StrAppend(&text, text.empty() ? "" : ", ",
                    TransportSizeName(choice.size), " ",
                    TransportOperationName(choice.message));
  }
  return text;
}

std::string FormatFailures(const TransportTable& result) {
  std::set<std::string> told;
  std::string text;
  for (const TransportEntry& entry : result.entries) {
    if (entry.status.ok()) continue;
    const std::string why =
        absl::StrCat(TransportOperationName(entry.operation), ": ",
                     std::string(entry.status.message()));
    if (!told.insert(why).second) continue;
    absl::StrAppend(&text, text.empty() ? "" : "; ", why);
  }
  return text;
}

}  // namespace forecache
