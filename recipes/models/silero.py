"""silero-vad for 16 kHz audio: is somebody speaking? A recurrent network, whose memory is an input and an output.

Written after the TorchScript archive that the silero-vad package ships, which torch.export can't take apart, with the
archive's own parameter names.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Spectrum(nn.Module):
    """Audio (N, T) to magnitudes (N, 129, T / 128): a short-time Fourier transform, written as a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("forward_basis_buffer", torch.zeros(258, 1, 256))

    def forward(self, audio: Tensor) -> Tensor:
        padded = functional.pad(audio, (0, 64), mode="reflect").unsqueeze(1)
        real, imaginary = functional.conv1d(padded, self.forward_basis_buffer, stride=128).chunk(2, dim=1)
        return torch.sqrt(real**2 + imaginary**2)


class Block(nn.Module):
    """A convolution over three frames, and a ReLU."""

    def __init__(self, inplanes: int, planes: int, stride: int) -> None:
        super().__init__()
        self.reparam_conv = nn.Conv1d(inplanes, planes, 3, stride=stride, padding=1)

    def forward(self, frames: Tensor) -> Tensor:
        return self.reparam_conv(frames).relu()


class Decoder(nn.Module):
    """One step of an LSTM, and a probability from its hidden state."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.LSTMCell(128, 128)
        self.decoder = nn.Sequential(nn.Dropout(0.1), nn.ReLU(), nn.Conv1d(128, 1, 1), nn.Sigmoid())

    def forward(self, features: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        hidden, cell = self.rnn(features, (state[0], state[1]))
        return self.decoder(hidden.unsqueeze(-1)).squeeze(-1), torch.stack([hidden, cell])


class SileroVAD(nn.Module):
    """A step of 32 ms: audio (N, 576) and state (2, N, 128), float32, to speech probability (N, 1) and the next state.

    Audio is in -1..1: the last 64 samples of the step before, then 512 new ones. The first step gets zeros for both.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stft = Spectrum()
        self.encoder = nn.Sequential(Block(129, 128, 1), Block(128, 64, 2), Block(64, 64, 2), Block(64, 128, 1))
        self.decoder = Decoder()

    def forward(self, audio: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        features = self.encoder(self.stft(audio)).squeeze(-1)
        return self.decoder(features, state)
