"""CUDA, where nvcc is on the machine; without it the targets are empty."""

def _cuda_impl(ctx):
    nvcc = ctx.which("nvcc")
    if not nvcc and ctx.path("/usr/local/cuda/bin/nvcc").exists:
        nvcc = ctx.path("/usr/local/cuda/bin/nvcc")
    root = ""
    if nvcc:
        # The wrapper on PATH may be a link: the libraries lie beside the target.
        root = str(ctx.path(nvcc).realpath.dirname.dirname)
        if not ctx.path(root + "/include/cuda_runtime.h").exists:
            root = "/usr/local/cuda"
    usable = root != "" and ctx.path(root + "/include/cuda_runtime.h").exists
    ctx.file("BUILD", "")
    ctx.file("config.bzl", "HAVE_NVCC = %s\nNVCC = %r\nCUDA_ROOT = %r\n" % (
        usable,
        str(nvcc) if usable else "",
        root if usable else "",
    ))

cuda_repository = repository_rule(implementation = _cuda_impl, local = True, environ = ["PATH"])
