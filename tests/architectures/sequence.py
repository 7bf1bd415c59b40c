"""Networks over time: one-dimensional convolutions and recurrence."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class CRNN(nn.Module):
    """Shi et al. 2017, "An end-to-end trainable network for image-based sequence recognition", table 1.

    A quarter of the widths. Returns (width / 4 + 1, 1, classes) log-probabilities.
    """

    class BidirectionalLSTM(nn.Module):
        def __init__(self, n_in, hidden, n_out):
            super().__init__()
            self.rnn = nn.LSTM(n_in, hidden, bidirectional=True)
            self.embedding = nn.Linear(hidden * 2, n_out)

        def forward(self, input):
            recurrent, _ = self.rnn(input)
            t, b, h = recurrent.size()
            output = self.embedding(recurrent.view(t * b, h))
            return output.view(t, b, -1)

    def __init__(self, classes=37, hidden=64):
        super().__init__()
        cnn = nn.Sequential()
        widths = (16, 32, 64, 64, 128, 128, 128)
        c = 1
        for i, c_out in enumerate(widths):
            last = i == len(widths) - 1
            cnn.add_module(f"conv{i}", nn.Conv2d(c, c_out, 2 if last else 3, 1, 0 if last else 1))
            if i in (2, 4, 6):
                cnn.add_module(f"batchnorm{i}", nn.BatchNorm2d(c_out))
            cnn.add_module(f"relu{i}", nn.ReLU(True))
            if i in (0, 1):
                cnn.add_module(f"pooling{i}", nn.MaxPool2d(2, 2))
            elif i in (3, 5):
                cnn.add_module(f"pooling{i}", nn.MaxPool2d((2, 2), (2, 1), (0, 1)))
            c = c_out
        self.cnn = cnn
        self.rnn = nn.Sequential(
            self.BidirectionalLSTM(c, hidden, hidden), self.BidirectionalLSTM(hidden, hidden, classes)
        )

    def forward(self, input):
        conv = self.cnn(input)
        _b, _c, h, _w = conv.size()
        assert h == 1, "the height of conv must be 1"
        conv = conv.squeeze(2)
        conv = conv.permute(2, 0, 1)
        return F.log_softmax(self.rnn(conv), dim=2)


class FrameGRU(nn.Module):
    """Donahue et al. 2015, "Long-term recurrent convolutional networks", figure 1: a CNN a frame, a GRU over frames.

    Input (1, frames, 3, H, W).
    """

    def __init__(self, classes=8):
        super().__init__()
        self.cnn = nn.Sequential(
            nn.Conv2d(3, 32, 5, 2, 2),
            nn.BatchNorm2d(32),
            nn.ReLU(inplace=True),
            nn.Conv2d(32, 64, 3, 2, 1),
            nn.BatchNorm2d(64),
            nn.ReLU(inplace=True),
            nn.Conv2d(64, 96, 3, 2, 1),
            nn.ReLU(inplace=True),
        )
        self.gru = nn.GRU(input_size=96, hidden_size=64, num_layers=1, batch_first=True)
        self.fc = nn.Linear(64, classes)

    def forward(self, x):
        b, t, c, h, w = x.shape
        y = self.cnn(x.view(b * t, c, h, w))
        y = F.adaptive_avg_pool2d(y, 1).view(b, t, -1)
        out, _hidden = self.gru(y)
        return self.fc(out[:, -1, :])


class StackedRecurrent(nn.Module):
    """Graves et al. 2013, "Speech recognition with deep recurrent neural networks": layers forward in time, a score of
    each class in every step.

    Input (1, time, features); output (1, time, classes).
    """

    def __init__(self, features=20, hidden=32, above=24, classes=10):
        super().__init__()
        self.lstm = nn.LSTM(features, hidden, num_layers=2, batch_first=True)
        self.gru = nn.GRU(hidden, above, batch_first=True)
        self.classes = nn.Linear(above, classes)

    def forward(self, frames):
        below, _ = self.lstm(frames)
        above, _ = self.gru(below)
        return self.classes(above)


class ProjectedLSTM(nn.Module):
    """Sak et al. 2014, "Long short-term memory recurrent neural network architectures for large scale acoustic
    modeling": memory cells by the dozen, of which fewer states go on.

    Input (1, time, features); output (1, classes) at the end, from states and cells.
    """

    def __init__(self, features=20, cells=40, states=24, classes=10):
        super().__init__()
        self.lstm = nn.LSTM(features, cells, num_layers=2, proj_size=states, batch_first=True)
        self.end = nn.Linear(cells, 16)
        self.classes = nn.Linear(states + 16, classes)

    def forward(self, frames):
        shown, (_, cells) = self.lstm(frames)
        return self.classes(torch.cat([shown[:, -1], torch.relu(self.end(cells[-1]))], 1))


class Chomp1d(nn.Module):
    def __init__(self, chomp_size):
        super().__init__()
        self.chomp_size = chomp_size

    def forward(self, x):
        return x[:, :, : -self.chomp_size].contiguous()


class TemporalBlock(nn.Module):
    """Dilated convolutions padded on both sides, the end cut off again, so that nothing sees the future."""

    def __init__(self, n_inputs, n_outputs, kernel_size, dilation, dropout=0.2):
        super().__init__()
        padding = (kernel_size - 1) * dilation
        self.conv1 = nn.Conv1d(n_inputs, n_outputs, kernel_size, padding=padding, dilation=dilation)
        self.conv2 = nn.Conv1d(n_outputs, n_outputs, kernel_size, padding=padding, dilation=dilation)
        self.net = nn.Sequential(
            self.conv1,
            Chomp1d(padding),
            nn.ReLU(),
            nn.Dropout(dropout),
            self.conv2,
            Chomp1d(padding),
            nn.ReLU(),
            nn.Dropout(dropout),
        )
        self.downsample = nn.Conv1d(n_inputs, n_outputs, 1) if n_inputs != n_outputs else None
        self.relu = nn.ReLU()

    def forward(self, x):
        out = self.net(x)
        res = x if self.downsample is None else self.downsample(x)
        return self.relu(out + res)


class TCN(nn.Module):
    """Bai et al. 2018, "An empirical evaluation of generic convolutional and recurrent networks", figure 1.

    Without weight norm. Input (1, time, features), as sequences are stored; output for the last step.
    """

    def __init__(self, features=8, channels=(32, 48, 64, 64), kernel_size=5, classes=6):
        super().__init__()
        layers, c = [], features
        for i, c_out in enumerate(channels):
            layers += [TemporalBlock(c, c_out, kernel_size, dilation=2**i)]
            c = c_out
        self.network = nn.Sequential(*layers)
        self.linear = nn.Linear(c, classes)

    def forward(self, inputs):
        y1 = self.network(inputs.transpose(1, 2))
        return self.linear(y1[:, :, -1])


class WaveNet(nn.Module):
    """van den Oord et al. 2016, "WaveNet", figure 4: tanh times sigmoid, residual and skip paths, left padding.

    Input (1, 1, time); output (1, classes, time).
    """

    def __init__(self, layers=8, c=32, skip=64, classes=32):
        super().__init__()
        self.causal = nn.Conv1d(1, c, 2)
        self.gates = nn.ModuleList(nn.Conv1d(c, 2 * c, 2, dilation=2**i) for i in range(layers))
        self.res = nn.ModuleList(nn.Conv1d(c, c, 1) for _ in range(layers))
        self.skips = nn.ModuleList(nn.Conv1d(c, skip, 1) for _ in range(layers))
        self.out1, self.out2 = nn.Conv1d(skip, skip, 1), nn.Conv1d(skip, classes, 1)
        self.c = c

    def forward(self, x):
        x = self.causal(F.pad(x, (1, 0)))
        total = 0
        for i, (gate, res, skip) in enumerate(zip(self.gates, self.res, self.skips, strict=True)):
            h = gate(F.pad(x, (2**i, 0)))
            a, b = torch.split(h, self.c, dim=1)
            h = torch.tanh(a) * torch.sigmoid(b)
            total = total + skip(h)
            x = res(h) + x
        return self.out2(F.relu(self.out1(F.relu(total))))


class AudioResNet(nn.Module):
    """Dai et al. 2017, "Very deep CNNs for raw waveforms": M34-res in small, blocks 2-2-2."""

    class Block(nn.Module):
        def __init__(self, c_in, c_out, stride):
            super().__init__()
            self.conv1 = nn.Conv1d(c_in, c_out, 3, stride, padding="same" if stride == 1 else 1, bias=False)
            self.bn1 = nn.BatchNorm1d(c_out)
            self.conv2 = nn.Conv1d(c_out, c_out, 3, padding="same", bias=False)
            self.bn2 = nn.BatchNorm1d(c_out)
            self.short = nn.Conv1d(c_in, c_out, 1, stride) if stride > 1 or c_in != c_out else None

        def forward(self, x):
            y = F.relu(self.bn1(self.conv1(x)))
            y = self.bn2(self.conv2(y))
            return F.relu(y.add_(x if self.short is None else self.short(x)))

    def __init__(self, classes=10):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv1d(1, 32, kernel_size=80, stride=4, padding=38), nn.BatchNorm1d(32)
        self.pool1 = nn.MaxPool1d(4)
        rows = ((32, 32, 1), (32, 32, 1), (32, 64, 4), (64, 64, 1), (64, 128, 4), (128, 128, 1))
        self.blocks = nn.Sequential(*(self.Block(*row) for row in rows))
        self.head = nn.Conv1d(128, classes, 1)

    def forward(self, x):
        x = self.pool1(F.relu(self.bn1(self.conv1(x))))
        x = self.head(self.blocks(x))
        x = F.avg_pool1d(x, x.shape[-1])
        return x.permute(0, 2, 1).squeeze(1)


class TextCNN(nn.Module):
    """Kim 2014, "Convolutional neural networks for sentence classification", on embedded words (1, words, 64)."""

    def __init__(self, embedding=64, filters=96, classes=4):
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(1, filters, (k, embedding)) for k in (3, 4, 5)])
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(3 * filters, classes)

    def forward(self, x):
        x = x.unsqueeze(1)
        x = [F.relu(conv(x)).squeeze(3) for conv in self.convs]
        x = [F.max_pool1d(i, i.size(2)).squeeze(2) for i in x]
        return self.fc(self.dropout(torch.cat(x, 1)))
