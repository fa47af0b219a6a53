"""Settings, read from MCM_* environment variables."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.keys import Key, read_keys
from mcm.image_formats import READ_FORMATS

MIB = 2**20
CommaSeparated = Annotated[tuple[str, ...], NoDecode]


def _keys(value: object) -> object:
    return read_keys(value) if isinstance(value, str) else value


Keys = Annotated[tuple[Key, ...], NoDecode, BeforeValidator(_keys)]
Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(gt=0)]


class Settings(BaseSettings):
    """Every setting of the service; each is an environment variable with the prefix MCM_."""

    model_config = SettingsConfigDict(
        env_prefix="MCM_",
        frozen=True,
        hide_input_in_errors=True,  # it may be a key
    )

    encoder: str = Field(
        default="builtin", description="Encoder: `builtin`, `ViT-B-16/openai`, `NAME/file:PATH` ..."
    )
    device: str = Field(
        default="auto", description="`auto` (a GPU where there is one), `cpu`, `cuda`, `cuda:1` ..."
    )
    host: str = Field(
        default="127.0.0.1", description="Address to listen on; beyond loopback keys are needed"
    )
    port: int = Field(default=8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one")
    database_url: str = Field(default="sqlite:///mcm.db", description="SQLAlchemy URL of the store")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least level logged"
    )
    log_format: Literal["text", "json"] = Field(
        default="text", description="Log lines for people or for programs"
    )

    api_keys: Keys = Field(
        default=(),
        description="Keys that may read and score, comma-separated: `KEY`, `sha256:HEX` or `@FILE`",
    )
    admin_keys: Keys = Field(default=(), description="Keys that may also write, in the same forms")
    allow_anonymous: bool = Field(default=False, description="Serve beyond loopback without keys")
    allowed_hosts: CommaSeparated = Field(
        default=(),
        description="Names accepted in the Host header beside loopback, comma-separated; `*` = any",
    )

    drift: bool = Field(
        default=False,
        description="Watch the images of calibrated detectors for drift; stores counts of them, no scores",
    )
    wordnet_dir: str = Field(
        default="",
        description="Folder of WordNet 3.x (index.noun, index.adj): the vocabulary `wordnet` of `neglabel`",
    )
    rate_limit: int = Field(
        default=0,
        ge=0,
        description="Requests a minute for each key (without keys: each address); 0 = no limit",
    )

    image_formats: CommaSeparated = Field(
        default=READ_FORMATS, description="Image formats that are decoded, comma-separated"
    )
    max_image_bytes: Count = Field(default=20 * MIB, description="Bytes of one image")
    max_image_pixels: Count = Field(default=50_000_000, description="Pixels of one image")
    max_request_bytes: Count = Field(default=64 * MIB, description="Bytes of a request that carries images")
    max_json_bytes: Count = Field(default=16 * MIB, description="Bytes of a JSON body without images")
    max_images: Count = Field(default=256, description="Images in one request")
    max_embeddings: Count = Field(default=10_000, description="Embeddings in one request")
    max_concepts: Count = Field(default=10_000, description="Concepts of one detector")
    max_templates: Count = Field(default=64, description="Templates of one detector")
    max_prompts: Count = Field(default=20_000, description="Prompts to create a detector")
    max_one_shot_prompts: Count = Field(default=1_000, description="Prompts of a one-shot or embed request")
    max_text_chars: Count = Field(default=1_000, description="Characters of a concept, prompt or template")
    max_detectors: Count = Field(default=1_000, description="Detectors in the store")
    max_calibration_scores: Count = Field(default=100_000, description="Scores of one calibration")
    matrix_cache_bytes: Count = Field(default=256 * MIB, description="Memory for loaded detectors")
    text_cache_bytes: Count = Field(default=64 * MIB, description="Memory for embeddings of prompts")
    image_cache_bytes: int = Field(
        default=0, ge=0, description="Memory for embeddings of images seen before, by content; 0 = none kept"
    )

    max_batch: Count = Field(default=32, description="Images or prompts in one forward pass")
    decode_threads: int = Field(default=0, ge=0, description="Threads that decode images; 0 = one a core")
    max_queued_images: Count = Field(
        default=1_024, description="Images admitted at once; more is refused with 429"
    )
    max_queued_bytes: Count = Field(default=512 * MIB, description="Request bytes admitted at once")
    max_queued_prompts: Count = Field(default=40_000, description="Prompts admitted at once")

    request_timeout: Seconds = Field(default=60, description="Seconds for a request, then 504")
    create_timeout: Seconds = Field(default=900, description="Seconds to create or import a detector")
    body_timeout: Seconds = Field(default=30, description="Seconds for a request's body to arrive, then 408")
    shutdown_grace_s: Seconds = Field(default=25, description="Seconds to finish after SIGTERM")
    stall_s: Seconds = Field(
        default=60, description="A forward pass longer than this makes the service unready"
    )
    store_grace_s: Seconds = Field(
        default=30, description="Seconds to score from memory while PostgreSQL is away"
    )

    @field_validator("allowed_hosts", "image_formats", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("allowed_hosts")
    @classmethod
    def _lower(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(host.lower() for host in hosts)

    @field_validator("image_formats")
    @classmethod
    def _known(cls, formats: tuple[str, ...]) -> tuple[str, ...]:
        known = {name.lower(): name for name in READ_FORMATS}
        unknown = [name for name in formats if name.lower() not in known]
        if unknown or not formats:
            raise ValueError(f"must name at least one of {', '.join(READ_FORMATS)}, and nothing else")
        return tuple(known[name.lower()] for name in formats)

    @property
    def has_keys(self) -> bool:
        """Whether callers must show a key."""
        return bool(self.api_keys or self.admin_keys)

    @property
    def on_sqlite(self) -> bool:
        """Whether the store is an SQLite file."""
        return self.database_url.partition(":")[0].partition("+")[0] == "sqlite"
