"""`Codec`: a tokenizer made of an encoder, a quantizer and a decoder in torch."""

from audiotokens.codec.base import Codec, CodecOutput, Codes, Parts
from audiotokens.codec.files import FORMAT_VERSION, fingerprint
from audiotokens.codec.stored import StoredModel

__all__ = ["FORMAT_VERSION", "Codec", "CodecOutput", "Codes", "Parts", "StoredModel", "fingerprint"]
