#include "kernels/arguments.h"

#include "common/check.h"
#include "kernels/code_plane.h"

namespace forecache {
namespace {

void CheckHeadDim(int head_dim) {
  FC_CHECK(head_dim > 0 && head_dim % 16 == 0 && head_dim <= kKernelHeadDimMax)
      << "head_dim=" << head_dim;
}

void CheckGroup(int group) {
  FC_CHECK(group > 0 && group <= kKernelGroupMax) << "group=" << group;
}

void CheckMemory(const SlotMemory& memory) {
  CheckHeadDim(memory.head_dim);
  FC_CHECK(memory.type == KvType::kF16 || memory.type == KvType::kBF16);
  // Both parts lie inside the slot, and elements are not torn.
  FC_CHECK(memory.v_offset % 2 == 0 && memory.slot_stride % 2 == 0);
}

void CheckTable(const SlotMemory& memory, const PageTable& table) {
  FC_CHECK(table.pages >= 0) << "pages=" << table.pages;
  if (table.pages == 0) return;
  FC_CHECK(memory.base != nullptr && table.slots != nullptr);
  FC_CHECK(table.last_page_tokens >= 1 && table.last_page_tokens <= kPageTokens)
      << "last_page_tokens=" << table.last_page_tokens;
}

}  // namespace

void CheckArguments(const DecodeAttention& args) {
  CheckMemory(args.memory);
  CheckGroup(args.group);
  FC_CHECK(args.kv_heads >= 0 && args.q != nullptr && args.out != nullptr);
  for (int h = 0; h < args.kv_heads; ++h) {
    CheckTable(args.memory, args.tables[h]);
  }
}

void CheckArguments(const ChunkAttention& args) {
  CheckMemory(args.memory);
  CheckGroup(args.group);
  FC_CHECK(args.queries >= 0 && args.first_position >= 0);
  FC_CHECK(args.q != nullptr && args.out != nullptr);
  for (int h = 0; h < args.kv_heads; ++h) {
    CheckTable(args.memory, args.tables[h]);
    FC_CHECK(TableTokens(args.tables[h]) >= args.first_position + args.queries)
        << "head " << h << " has " << TableTokens(args.tables[h])
        << " tokens, rows reach " << args.first_position + args.queries;
  }
}

void CheckArguments(const ExactScores& args) {
  CheckHeadDim(args.head_dim);
  CheckGroup(args.group);
  FC_CHECK(args.tokens >= 0 && args.q != nullptr);
  FC_CHECK(args.block_max != nullptr && args.lse != nullptr);
}

void CheckArguments(const CodeScores& args) {
  CheckHeadDim(args.head_dim);
  CheckGroup(args.group);
  FC_CHECK(args.code_plane != nullptr && args.q != nullptr);
  FC_CHECK(args.block_max != nullptr);
}

void CheckArguments(const CodeScan& args) {
  CheckHeadDim(args.head_dim);
  CheckGroup(args.group);
  CodePlaneBytes(args.kind, args.head_dim);  // checks the kind
  FC_CHECK(args.plane_count >= 0) << "plane_count=" << args.plane_count;
  FC_CHECK(args.q != nullptr);
  if (args.plane_count == 0) return;
  FC_CHECK(args.planes != nullptr && args.block_max != nullptr);
  FC_CHECK(args.logits == nullptr ||
           args.logit_stride >= size_t(args.plane_count) * kCodePlaneTokens)
      << "logit_stride=" << args.logit_stride;
}

void CheckArguments(const ValueScan& args) {
  CheckHeadDim(args.head_dim);
  CheckGroup(args.group);
  FC_CHECK(args.plane != nullptr && args.logits != nullptr &&
           args.block_max != nullptr && args.lse != nullptr);
  FC_CHECK(args.mass != nullptr && args.keys != nullptr &&
           args.values != nullptr);
  FC_CHECK(args.blocks < 1u << kCodePlaneBlocks) << args.blocks;
}

size_t CodePlaneBytes(int head_dim) {
  CheckHeadDim(head_dim);
  return 8 * size_t(head_dim) + size_t(kCodePlaneTokens) * head_dim / 2;
}

size_t CodePlaneBytes(CodeKind kind, int head_dim) {
  CheckHeadDim(head_dim);
  switch (kind) {
    case CodeKind::k4Bit:
      return CodePlaneBytes(head_dim);
    case CodeKind::k2BitRotated:
      return 4 * size_t(head_dim) + 2 * kCodePlaneTokens +
             size_t(kCodePlaneTokens) * head_dim / 4;
  }
  FC_CHECK(false) << "kind=" << static_cast<int>(kind);
  return 0;
}

const char* CodeKindName(CodeKind kind) {
  return kind == CodeKind::k4Bit ? "4-bit" : "2-bit rotated";
}

}  // namespace forecache
