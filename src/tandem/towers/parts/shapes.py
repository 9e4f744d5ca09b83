"""Shapes of the layers that several towers have, by name."""

Shapes = dict[str, tuple[int, ...]]


def norm(name: str, width: int) -> Shapes:
    """A layer norm."""
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def batch_norm(name: str, width: int) -> Shapes:
    """A batch norm with its running statistics."""
    return {**norm(name, width), f"{name}.running_mean": (width,), f"{name}.running_var": (width,)}


def linear(name: str, leaving: int, entering: int) -> Shapes:
    """A linear layer with a bias."""
    return {f"{name}.weight": (leaving, entering), f"{name}.bias": (leaving,)}


def attention(name: str, width: int) -> Shapes:
    """Multi-head attention with the projections of queries, keys and values in one."""
    return {
        f"{name}.in_proj_weight": (3 * width, width),
        f"{name}.in_proj_bias": (3 * width,),
        **linear(f"{name}.out_proj", width, width),
    }


def mlp(name: str, width: int, hidden: int) -> Shapes:
    """Two linear layers."""
    return {**linear(f"{name}.c_fc", hidden, width), **linear(f"{name}.c_proj", width, hidden)}


def transformer(name: str, layers: int, width: int, mlp_width: int) -> Shapes:
    """Pre-norm blocks."""
    shapes: Shapes = {}
    for block in (f"{name}.resblocks.{i}" for i in range(layers)):
        shapes |= attention(f"{block}.attn", width) | mlp(f"{block}.mlp", width, mlp_width)
        shapes |= norm(f"{block}.ln_1", width) | norm(f"{block}.ln_2", width)
    return shapes
