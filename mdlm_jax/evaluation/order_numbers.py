"""How many random orders a likelihood takes. It imports no JAX, so a wrong command ends at once."""

from mdlm_jax.errors import UserError

MOST_ORDERS = 4096  # of a row; its order k is the same whatever the numbers of rows and orders


def check_orders(orders: int) -> None:
    """Raises UserError for a number of orders that is odd or out of range."""
    if not (2 <= orders <= MOST_ORDERS and orders % 2 == 0):
        raise UserError(f"--orders={orders}; accepted: an even number, 2 to {MOST_ORDERS}")
