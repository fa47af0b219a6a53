"""The optional limit of requests for each key, or for each address where there are no keys."""

from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.rate import RateLimit, network_of
from tests.problems import assert_problem
from tests.server import running


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


# ---- the bucket


def test_a_minutes_requests_may_come_at_once_and_then_one_each_share_of_it() -> None:
    clock = Clock()
    limit = RateLimit(6, clock)
    assert [limit.take("a") for _ in range(6)] == [0.0] * 6
    assert limit.take("a") == pytest.approx(10)
    clock.now += 4
    assert limit.take("a") == pytest.approx(6)
    clock.now += 6
    assert limit.take("a") == 0.0
    assert limit.take("a") == pytest.approx(10)


def test_callers_do_not_share_a_bucket() -> None:
    limit = RateLimit(1, Clock())
    assert limit.take("a") == 0.0
    assert limit.take("b") == 0.0
    assert limit.take("a") > 0


def test_a_long_rest_fills_one_bucket_and_no_more() -> None:
    clock = Clock()
    limit = RateLimit(2, clock)
    clock.now += 3600
    assert [limit.take("a") == 0.0 for _ in range(3)] == [True, True, False]


@given(st.integers(1, 100), st.lists(st.floats(0, 30), min_size=1, max_size=300))
def test_no_pattern_gets_more_than_the_bucket_and_its_refill(per_minute: int, pauses: list[float]) -> None:
    clock = Clock()
    limit = RateLimit(per_minute, clock)
    allowed = 0
    for pause in pauses:
        clock.now += pause
        allowed += limit.take("a") == 0.0
    assert allowed <= per_minute + sum(pauses) * per_minute / 60 + 1e-6


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("unix", "unix"),
    ],
)
def test_addresses_that_one_caller_can_choose_among_are_one(address: str, network: str) -> None:
    assert network_of(address) == network


# ---- the running service


def codes(url: str, key: str, times: int) -> list[int]:
    with httpx.Client(base_url=url, trust_env=False, headers={"X-API-Key": key}) as http:
        return [http.get("/v1/models").status_code for _ in range(times)]


def test_each_key_has_its_own_share_and_is_told_when_to_come_again(tmp_path: Path) -> None:
    one, other = "one-key-0123456789", "other-key-0123456789"
    with running(tmp_path, api_keys=one, admin_keys=other, rate_limit=3) as server:
        assert codes(server.url, one, 5) == [200, 200, 200, 429, 429]
        assert codes(server.url, other, 1) == [200]
        with httpx.Client(base_url=server.url, trust_env=False) as http:
            response = http.get("/v1/models", headers={"Authorization": f"Bearer {one}"})
            problem = assert_problem(response, 429, "rate-limited")
            assert 1 <= int(response.headers["retry-after"]) <= 20
            assert "3 requests a minute" in problem["detail"]
            assert [http.get(path).status_code for path in ("/healthz", "/readyz")] == [200, 200]
            assert_problem(http.get("/v1/models"), 401, "unauthorized")


def test_without_keys_the_address_counts(tmp_path: Path) -> None:
    with running(tmp_path, rate_limit=2) as server:
        assert codes(server.url, "ignored", 3) == [200, 200, 429]
        assert codes(server.url, "another", 1) == [429]


def test_a_refused_page_uses_up_nobodys_share(tmp_path: Path) -> None:
    with (
        running(tmp_path, rate_limit=1) as server,
        httpx.Client(base_url=server.url, trust_env=False) as http,
    ):
        for _ in range(3):
            evil = http.post("/v1/score", headers={"Origin": "http://evil.example"})
            assert_problem(evil, 403, "forbidden-origin")
        assert http.get("/v1/models").status_code == 200


def test_the_limit_is_off_by_default(http: httpx.Client) -> None:
    assert {http.get("/v1/models").status_code for _ in range(300)} == {200}
