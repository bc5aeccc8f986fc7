"""What a customer's fraud status or status label bars. With the status module on, labels replace the fraud status.

Sources: the documented fraud statuses and labels; SUSPENDED and DELETED bar as labels "other than fraud".
"""

from __future__ import annotations

from points_grpc.domain.configuration import STATUS_MODULE, is_on
from points_grpc.domain.model import Customer, FraudStatus, OrgConfig, StatusLabel

_FRAUD_STATUSES = frozenset({FraudStatus.MARKED, FraudStatus.CONFIRMED, FraudStatus.RECONFIRMED})
_FRAUD_LABELS = frozenset({StatusLabel.FRAUD_SUSPECTED, StatusLabel.FRAUD_CONFIRMED})
_OTHER_BARRING_LABELS = frozenset({StatusLabel.SUSPENDED, StatusLabel.DELETED})


def is_fraud(customer: Customer, config: OrgConfig) -> bool:
    """Whether the customer is marked as a fraud, by whichever of the two is in force."""
    if is_on(config, STATUS_MODULE):
        return customer.status_label in _FRAUD_LABELS
    return customer.fraud_status in _FRAUD_STATUSES


def label_bars(customer: Customer, config: OrgConfig) -> bool:
    """Whether a label other than fraud bars the customer; only with the status module on."""
    return is_on(config, STATUS_MODULE) and customer.status_label in _OTHER_BARRING_LABELS


def module_is_on(config: OrgConfig) -> bool:
    """Whether status labels are in force."""
    return is_on(config, STATUS_MODULE)
