"""A .proto with its services, as one C++ library."""

def grpc_library(name, src, visibility = None):
    base = src.replace(".proto", "")
    outs = [
        base + ".pb.cc",
        base + ".pb.h",
        base + ".grpc.pb.cc",
        base + ".grpc.pb.h",
    ]
    native.genrule(
        name = name + "_gen",
        srcs = [src],
        outs = outs,
        cmd = "protoc -I. --cpp_out=$(GENDIR) --grpc_out=$(GENDIR) " +
              "--plugin=protoc-gen-grpc=$$(which grpc_cpp_plugin) $(SRCS)",
    )
    native.cc_library(
        name = name,
        srcs = [out for out in outs if out.endswith(".cc")],
        hdrs = [out for out in outs if out.endswith(".h")],
        visibility = visibility,
        deps = [
            "//third_party:grpc",
            "//third_party:protobuf",
        ],
    )
