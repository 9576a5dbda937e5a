"""Train a small CNN on upright digits, then make it answer turned digits too, without further training."""

import os

import torch
from sklearn.datasets import load_digits
from torch import nn

from equirl.models.image_classifier import Classifier
from equirl.models.images import SymmetrizedClassifier, make_image_aggregator

STEPS = int(os.environ.get("EQUIRL_EXAMPLE_STEPS", "500"))

torch.manual_seed(0)
digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32)[:, None].expand(-1, 3, -1, -1) / 16  # [N, 3, 8, 8]
labels = torch.tensor(digits.target)
maps = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, padding=1), nn.ReLU())
pool = nn.AdaptiveMaxPool2d(2)
backbone = Classifier(maps, nn.Sequential(pool, nn.Flatten()), nn.Linear(256, 10), 8, [0.5] * 3, [0.5] * 3)

adam = torch.optim.Adam(backbone.parameters(), 1e-3)
for _ in range(STEPS):
    batch = torch.randint(1500, (64,))
    adam.zero_grad()
    nn.functional.cross_entropy(backbone(images[batch]), labels[batch]).backward()
    adam.step()

model = SymmetrizedClassifier(backbone.eval(), "c4", make_image_aggregator("equizero", backbone.pooled_length()))
upright, answers = images[1500:], labels[1500:]
turned = torch.rot90(upright, 1, (2, 3))
with torch.no_grad():
    for name, network in (("plain", backbone), ("equizero", model)):
        right = [float((network(x).argmax(dim=1) == answers).float().mean()) for x in (upright, turned)]
        print(f"{name}: accuracy {right[0]:.2f} upright, {right[1]:.2f} turned by 90 degrees")
