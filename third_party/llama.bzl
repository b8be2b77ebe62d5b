"""llama.cpp as a repository: libllama and ggml, built by `./forecache setup`."""

_BUILD = """
cc_library(
    name = "ggml",
    srcs = ["lib/libggml.a", "lib/libggml-cpu.a", "lib/libggml-base.a"],
    hdrs = glob(["include/ggml*.h", "include/gguf.h"]),
    includes = ["include"],
    linkopts = ["-lpthread", "-ldl", "-lm"],
    visibility = ["@//worker/model:__pkg__", "@//tests/worker/model:__pkg__"],
)

cc_library(
    name = "llama",
    srcs = ["lib/libllama.a"],
    hdrs = glob(["include/llama*.h"]),
    includes = ["include"],
    visibility = ["@//worker/model:__pkg__", "@//tests/worker/model:__pkg__"],
    deps = [":ggml"],
)
"""

def _llama_impl(ctx):
    root = ctx.os.environ.get("FORECACHE_LLAMA", "")
    if not root:
        fail("FORECACHE_LLAMA is not set: build with ./forecache, or see " +
             "docs/ARCHITECTURE.md, section Building by hand")
    ctx.symlink(root + "/lib", "lib")
    ctx.symlink(root + "/include", "include")
    ctx.file("BUILD", _BUILD)

llama_repository = repository_rule(
    implementation = _llama_impl,
    environ = ["FORECACHE_LLAMA"],
    local = True,
)
