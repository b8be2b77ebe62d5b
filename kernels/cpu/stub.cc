#include "kernels/attention.h"
#include "kernels/block_scores.h"
namespace forecache {
void DecodeAttentionCpu(const DecodeAttention& args){ DecodeAttentionRef(args); }
void ChunkAttentionCpu(const ChunkAttention& args, int part, int parts){ if(part==0) ChunkAttentionRef(args); }
void ExactScoresCpu(const ExactScores& args){ ExactScoresRef(args); }
void CodeScoresCpu(const CodeScores& args){ CodeScoresRef(args); }
void EncodeCodePlane(const std::byte* keys, KvType type, int head_dim, std::byte* p){ EncodeCodePlaneRef(keys,type,head_dim,p); }
std::string KernelIsa(){return "SCALAR";}
std::vector<std::string> KernelIsasForTest(){return {"SCALAR"};}
void SetKernelIsaForTest(const std::string&){}
}
