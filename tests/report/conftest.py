import copy

import pytest
from report_samples import DISTRIBUTION, SAMPLE, VERDICT

from edgeprune.report.schema import Report


@pytest.fixture
def judged(sample):
    """A report with everything that measuring in turns finds out."""
    sample["verdicts"] = [copy.deepcopy(VERDICT)]
    sample["variants"][1]["distribution"] = copy.deepcopy(DISTRIBUTION)
    return sample


@pytest.fixture
def sample():
    """A whole report as plain JSON; change it at will."""
    return copy.deepcopy(SAMPLE)


@pytest.fixture
def report(sample):
    return Report.model_validate(sample)
