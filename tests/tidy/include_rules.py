"""Who may include whom: STYLE's matrix, and one owner for a foreign header."""

import fnmatch
import re

from source import Finding

INCLUDE = re.compile(r'^\s*#\s*include\s+(["<])([^">]+)[">]', re.MULTILINE)

# What the store and its clients say to each other: no code of the store.
STORE_WORDS = ("kvstore/geometry.h", "kvstore/hello.h", "kvstore/placement.h",
               "kvstore/wire.h")

# What a folder may include, besides itself.  The longest folder that a file
# is in decides.  bench/, demo/, tests/ and testing/ folders are free.
MAY_INCLUDE = {
    "common": (),
    "proto": (),
    "kernels": ("common/bytes.h", "common/check.h", "common/half.h",
                "common/status.h", "common/target_clones.h"),
    "transport": ("common/",),
    "predictor": ("kernels/", "common/"),
    "kvstore": ("kernels/attention.h", "kernels/block_scores.h",
                "kernels/code_scan.h", "kernels/small_exp.h",
                "kernels/value_plane.h",
                "transport/", "proto/", "common/"),
    "kvstore/client": ("transport/", "proto/", "common/") + STORE_WORDS,
    "worker": ("predictor/", "kvstore/client/", "kernels/", "transport/",
               "proto/", "common/") + STORE_WORDS,
}
ROOMS = {"bench", "common", "demo", "kernels", "kvstore", "predictor", "proto",
         "tests", "transport", "worker"}

# The first pattern that an include matches names its owners.
OWNERS = (
    (r"uc[pstm]/", ("transport/ucx_*", "tests/transport/ucx_*", "bench/*")),
    (r"rocksdb/", ("kvstore/ssd/*", "bench/disk_blob.cc")),
    (r"liburing", ("kvstore/ssd/*",)),
    (r"(cuda|cublas|nvml)\w*\.h", ("kernels/cuda/*", "worker/cuda_arena*",
                                   "tests/kernels/*")),
    (r"grpc(pp)?/|.*\.grpc\.pb\.h", (
        "*_service.cc", "*_service.h", "*main.cc", "common/tls.*", "*/client/*", "*_client*",
        "demo/*", "bench/*", "tests/*")),
    (r"(ggml|gguf|llama)[\w-]*\.h",
     ("worker/model/*", "tests/worker/model/*")),
    (r"isa-l", ("common/crc32c.cc",)),
    (r"prometheus/", ("common/metrics.cc",)),
    (r"(spdlog|fmt)/", ("common/log.cc",)),
    (r"openssl/", ("kvstore/secret.cc", "worker/model/gguf_file.*",
                   "tests/testing/certificates.cc")),
    (r"hwy/", ("kernels/*", "tests/kernels/*")),
    (r"httplib", ("worker/serving/*", "demo/*", "tests/e2e/*")),
)


def includes(source):
    """-> (offset, is it ours, what) of each include."""
    for match in INCLUDE.finditer(source.uncommented):
        what = match.group(2)
        is_ours = match.group(1) == '"' and what.split("/")[0] in ROOMS
        yield match.start(2), is_ours, what


def room_of(path):
    """The entry of MAY_INCLUDE that binds a file; "" is free."""
    rooms = [room for room in MAY_INCLUDE if path.startswith(room + "/")]
    return max(rooms, key=len, default="")


def include_matrix(source):
    room = room_of(source.path) if source.is_cc() else ""
    if not room or source.is_test():
        return
    allowed = (room + "/",) + MAY_INCLUDE[room]
    if room == "kvstore":
        allowed += ("kvstore/client/",)
    for offset, is_ours, what in includes(source):
        if is_ours and not what.startswith(allowed):
            yield Finding("include-matrix", source.path,
                          source.line_at(offset),
                          f"{room}/ may not include {what}, only "
                          f"{', '.join(allowed)}: turn the dependency round, "
                          "or move what is shared down")
        if "/testing/" in what:
            yield Finding("include-matrix", source.path,
                          source.line_at(offset),
                          f"{what} is for tests: only they may include it")


def foreign_owner(source):
    if not source.is_cc() or source.path.startswith("third_party/"):
        return
    for offset, is_ours, what in includes(source):
        for pattern, owners in OWNERS:
            if not re.match(pattern, what):
                continue
            if not any(fnmatch.fnmatch(source.path, o) for o in owners):
                yield Finding("foreign-header", source.path,
                              source.line_at(offset),
                              f"{what} belongs to {', '.join(owners)}: call "
                              "our wrapper there")
            break


RULES = (include_matrix, foreign_owner)
