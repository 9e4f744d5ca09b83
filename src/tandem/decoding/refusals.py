"""How images are refused whose headers promise more than a limit: each names the field of `tandem.image.Limits`."""


def too_many_pixels(width: int, height: int, most: int) -> str:
    """More pixels than `max_pixels`."""
    return f"{width:,} x {height:,} pixels, more than the limit of {most:,} (max_pixels)"


def too_much_memory(width: int, height: int, kind: str, taken: int, most: int) -> str:
    """More bytes while it is decoded than `max_decoded_bytes`."""
    return (
        f"{width:,} x {height:,} pixels of {kind} take {taken // 10**6:,} MB to decode, more than the limit of "
        f"{most // 10**6:,} MB (max_decoded_bytes)"
    )


def too_long(width: int, height: int, kind: str, seconds: float, most: float) -> str:
    """More seconds in a slow decoder than `decode_s`."""
    return (
        f"{width:,} x {height:,} pixels of {kind} take {seconds:,.0f} s to decode: the limit is {most:g} s (decode_s)"
    )
