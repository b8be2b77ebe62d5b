#include "kvstore/tenants/tenants_file.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <set>
#include <sstream>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "common/limits.h"
#include "common/status.h"
#include "nlohmann/json.hpp"

namespace forecache {
namespace {

using Json = nlohmann::json;

constexpr size_t kSecretBytesMin = 16;
constexpr size_t kSecretBytesMax = 1024;

absl::Status Wrong(const std::string& field, const std::string& why) {
  return absl::InvalidArgumentError(absl::StrCat(field, ": ", why));
}

absl::Status ReadFile(const std::string& path, size_t bytes_max,
                      std::string* text) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream bytes;
  if (file) bytes << file.rdbuf();
  if (!file) return absl::NotFoundError("cannot be read");
  *text = bytes.str();
  if (text->size() > bytes_max) {
    return absl::InvalidArgumentError(absl::StrCat(
        "has ", text->size(), " bytes, at most ", bytes_max));
  }
  return absl::OkStatus();
}

// Reads the fields of one object of the file, each at most once; what is left
// at the end is a field that does not exist.
//
// Threads: one thread.
class Fields {
 public:
  Fields(const Json& object, std::string path)
      : object_(object), path_(std::move(path)) {
    if (!object.is_object()) Fail("", "must be an object");
  }

  std::string Path(const std::string& field) const {
    return field.empty() ? path_ : absl::StrCat(path_, ".", field);
  }
  // The first error.
  const absl::Status& status() const { return status_; }
  void Fail(const std::string& field, const std::string& why) {
    status_.Update(Wrong(Path(field), why));
  }

  // Null when the field is not there.
  const Json* Take(const std::string& field) {
    taken_.insert(field);
    if (!object_.is_object()) return nullptr;
    auto found = object_.find(field);
    return found == object_.end() ? nullptr : &*found;
  }
  std::string Text(const std::string& field) {
    const Json* value = Take(field);
    if (value == nullptr) return "";
    if (value->is_string()) return value->get<std::string>();
    Fail(field, "must be a string");
    return "";
  }
  uint64_t Number(const std::string& field, uint64_t least, uint64_t most,
                  uint64_t otherwise) {
    const Json* value = Take(field);
    if (value == nullptr) return otherwise;
    const bool fits = value->is_number_unsigned() &&
                      value->get<uint64_t>() >= least &&
                      value->get<uint64_t>() <= most;
    if (fits) return value->get<uint64_t>();
    Fail(field, absl::StrCat("is ", value->dump(), ", must be a number of ",
                             least, " to ", most));
    return otherwise;
  }
  std::vector<std::string> Texts(const std::string& field, size_t most) {
    const Json* value = Take(field);
    std::vector<std::string> texts;
    if (value == nullptr) return texts;
    const bool fits =
        value->is_array() && value->size() <= most &&
        std::all_of(value->begin(), value->end(),
                    [](const Json& item) { return item.is_string(); });
    if (fits) return value->get<std::vector<std::string>>();
    Fail(field, absl::StrCat("must be a list of at most ", most, " strings"));
    return texts;
  }
  // To be called last.
  void RefuseOthers() {
    if (!object_.is_object()) return;
    for (const auto& [field, value] : object_.items()) {
      if (!taken_.contains(field)) Fail(field, "there is no such field");
    }
  }

 private:
  const Json& object_;
  const std::string path_;
  std::set<std::string> taken_;
  absl::Status status_;
};

bool IsName(const std::string& name) {
  return !name.empty() && name.size() <= kTenantNameBytesMax &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return absl::ascii_islower(c) || absl::ascii_isdigit(c) ||
                  std::strchr("-_.", c) != nullptr;
         });
}

void ReadSecret(Fields* fields, const std::string& folder,
                TenantConfig* tenant) {
  std::string phrase = fields->Text("secret");
  std::string file = fields->Text("secret_file");
  if (phrase.empty() == file.empty()) {
    return fields->Fail("secret", "give it or secret_file, one of them");
  }
  if (!file.empty()) {
    if (file[0] != '/') file = absl::StrCat(folder, "/", file);
    const absl::Status read = ReadFile(file, kSecretBytesMax, &phrase);
    if (!read.ok()) {
      return fields->Fail("secret_file",
                          absl::StrCat(file, " ", read.message()));
    }
  }
  if (phrase.size() < kSecretBytesMin || phrase.size() > kSecretBytesMax) {
    return fields->Fail(
        file.empty() ? "secret" : "secret_file",
        absl::StrCat("has ", phrase.size(), " bytes, must have ",
                     kSecretBytesMin, " to ", kSecretBytesMax));
  }
  tenant->secret = TenantSecret::FromPhrase(phrase);
}

absl::Status ReadQuota(Fields* fields, const std::string& tier,
                       TierQuota* quota) {
  const Json* value = fields->Take(tier);
  if (value == nullptr) return absl::OkStatus();
  Fields own(*value, fields->Path(tier));
  quota->floor_bytes =
      own.Number("floor_bytes", 0, kTierBytesMax, quota->floor_bytes);
  quota->ceiling_bytes =
      own.Number("ceiling_bytes", 1, kTierBytesMax, quota->ceiling_bytes);
  own.RefuseOthers();
  if (quota->ceiling_bytes < quota->floor_bytes) {
    own.Fail("ceiling_bytes", absl::StrCat("is below floor_bytes, ",
                                           quota->floor_bytes));
  }
  return own.status();
}

void ReadCredential(Fields* fields, TenantConfig* tenant) {
  tenant->certificate_name = fields->Text("certificate_name");
  if (tenant->certificate_name.size() > kTenantNameBytesMax) {
    fields->Fail("certificate_name",
                 absl::StrCat("at most ", kTenantNameBytesMax, " bytes"));
  }
  const std::string hex = fields->Text("token_sha256");
  if (!hex.empty()) {
    tenant->token_sha256.emplace();
    if (!std::all_of(hex.begin(), hex.end(), absl::ascii_isxdigit) ||
        hex.size() != 2 * tenant->token_sha256->size()) {
      return fields->Fail("token_sha256", "must be 64 hexadecimal digits");
    }
    const std::string bytes = absl::HexStringToBytes(hex);
    std::memcpy(tenant->token_sha256->data(), bytes.data(), bytes.size());
  }
  if (hex.empty() && tenant->certificate_name.empty() &&
      tenant->name != kDefaultTenantName) {
    fields->Fail("token_sha256",
                 "give it or certificate_name: how else would it be known?");
  }
}

absl::StatusOr<TenantConfig> ReadTenant(const Json& object,
                                        const std::string& path,
                                        bool is_domain,
                                        const std::string& folder) {
  Fields fields(object, path);
  TenantConfig tenant;
  tenant.is_domain = is_domain;
  tenant.name = fields.Text("name");
  if (!IsName(tenant.name) || tenant.name == kOtherTenants) {
    fields.Fail("name",
                absl::StrCat("must be 1 to ", kTenantNameBytesMax,
                             " of a-z, 0-9, '-', '_' and '.', and not '",
                             kOtherTenants, "'"));
  }
  ReadSecret(&fields, folder, &tenant);
  FC_RETURN_IF_ERROR(ReadQuota(&fields, "dram", &tenant.quotas[0]));
  FC_RETURN_IF_ERROR(ReadQuota(&fields, "ssd", &tenant.quotas[1]));
  if (!is_domain) {
    ReadCredential(&fields, &tenant);
    tenant.bandwidth_share = static_cast<int>(
        fields.Number("bandwidth_share", 1, kTenantShareMax, 1));
    tenant.probe_share =
        static_cast<int>(fields.Number("probe_share", 1, kTenantShareMax, 1));
    tenant.reads = fields.Texts("reads", kTenantDomainsMax);
    tenant.writes = fields.Texts("writes", kTenantDomainsMax);
  }
  fields.RefuseOthers();
  FC_RETURN_IF_ERROR(fields.status());
  return tenant;
}

// What no two may have alike, and domains that must be there.
absl::Status CheckTogether(const std::vector<TenantConfig>& tenants) {
  std::set<std::string> names, domains, certificates;
  std::set<std::array<uint8_t, 32>> secrets, tokens;
  for (const TenantConfig& tenant : tenants) {
    if (tenant.is_domain) domains.insert(tenant.name);
  }
  for (const TenantConfig& tenant : tenants) {
    if (!names.insert(tenant.name).second) {
      return Wrong(tenant.name, "name: another one has it");
    }
    if (!secrets.insert(tenant.secret.bytes).second) {
      return Wrong(tenant.name, "secret: another one has it");
    }
    if (tenant.token_sha256 && !tokens.insert(*tenant.token_sha256).second) {
      return Wrong(tenant.name, "token_sha256: another one has it");
    }
    if (!tenant.certificate_name.empty() &&
        !certificates.insert(tenant.certificate_name).second) {
      return Wrong(tenant.name, "certificate_name: another one has it");
    }
    for (const auto* list : {&tenant.reads, &tenant.writes}) {
      for (const std::string& domain : *list) {
        if (domains.contains(domain)) continue;
        return Wrong(tenant.name,
                     absl::StrCat(list == &tenant.reads ? "reads" : "writes",
                                  ": there is no domain '", domain, "'"));
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<TenantConfig>> ParseTenants(
    const std::string& text, const std::string& folder) {
  Json json;
  try {
    json = Json::parse(text);
  } catch (const Json::exception& error) {  // a number may be out of range
    return absl::InvalidArgumentError(error.what());  // has line and column
  }
  std::vector<TenantConfig> tenants;
  Fields file(json, "file");
  for (const char* list : {"domains", "tenants"}) {
    const Json* items = file.Take(list);
    if (items == nullptr) continue;
    if (!items->is_array()) return Wrong(list, "must be a list");
    for (size_t i = 0; i < items->size(); ++i) {
      if (tenants.size() >= kTenantsMax) {
        return Wrong(list, absl::StrCat("more than ", kTenantsMax,
                                        " tenants and domains"));
      }
      FC_ASSIGN_OR_RETURN(
          TenantConfig tenant,
          ReadTenant((*items)[i], absl::StrCat(list, "[", i, "]"),
                     list[0] == 'd', folder));
      tenants.push_back(std::move(tenant));
    }
  }
  file.RefuseOthers();
  FC_RETURN_IF_ERROR(file.status());
  FC_RETURN_IF_ERROR(CheckTogether(tenants));
  return tenants;
}

absl::StatusOr<std::vector<TenantConfig>> TenantsFile::Load() {
  // Before it is read: a change while it is read is seen the next time.
  loaded_ = Now();
  std::string text;
  FC_RETURN_IF_ERROR(
      Annotate(ReadFile(path_, kTenantsFileBytesMax, &text), path_));
  const size_t slash = path_.rfind('/');
  auto tenants = ParseTenants(
      text, slash == std::string::npos ? "." : path_.substr(0, slash));
  if (!tenants.ok()) return Annotate(tenants.status(), path_);
  return tenants;
}

bool TenantsFile::Changed() const { return !(Now() == loaded_); }

TenantsFile::Version TenantsFile::Now() const {
  struct stat file;
  if (stat(path_.c_str(), &file) != 0) return {};
  return {file.st_ino,
          file.st_mtim.tv_sec * kSecond + file.st_mtim.tv_nsec, file.st_size};
}

}  // namespace forecache
