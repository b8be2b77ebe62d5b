"""The network of the policy `conv`, and its file (predictor/conv_net.h)."""
import struct

import torch
from torch import nn

MAGIC, VERSION = 0x56434346, 1
SCALES = {"linear": 0, "log": 1}
UNSEEN = {"zero": 0, "previous": 1}


class ConvNet(nn.Module):
    """Rows [n, window, blocks] -> scores [n, blocks]."""
    def __init__(self, window, channels1, channels2, scale, unseen):
        super().__init__()
        self.window, self.scale, self.unseen = window, scale, unseen
        self.conv1 = nn.Conv2d(1, channels1, 3, padding=1)
        self.conv2 = nn.Conv2d(channels1, channels2, 3, padding=1)
        self.conv3 = nn.Conv1d(channels2, 1, 1)

    def forward(self, rows):
        x = self.conv1(rows[:, None]).relu()
        x = self.conv2(x).relu()
        return self.conv3(x.mean(2))[:, 0]


def crc32c(data):
    """CRC-32C (Castagnoli), bit by bit: the file is small."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def write_file(net, path):
    header = struct.pack("<8I", MAGIC, VERSION, net.window,
                         net.conv1.out_channels, net.conv2.out_channels,
                         SCALES[net.scale], 1, UNSEEN[net.unseen])
    body = b"".join(part.detach().to(torch.float32).numpy().astype("<f4").tobytes()
                    for layer in (net.conv1, net.conv2, net.conv3)
                    for part in (layer.weight, layer.bias))
    with open(path, "wb") as file:
        file.write(header + body + struct.pack("<I", crc32c(header + body)))
