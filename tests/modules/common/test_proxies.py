import pytest

from modules.common import proxies

ALL = ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in ALL:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9", "::1", "[::1]", "a.localhost"])
def test_this_machine_has_no_proxy(monkeypatch, host):
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    assert proxies.is_loopback(host)
    assert proxies.proxy_of(host, proxies.rest_variables("http")) is None
    assert proxies.grpc_option(f"{host}:8500") == ("grpc.enable_http_proxy", 0)


@pytest.mark.parametrize("host", ["example.org", "10.0.0.1", "localhost.example.org"])
def test_another_host_has_that_of_the_environment(monkeypatch, host):
    monkeypatch.setenv("http_proxy", "proxy:3128")
    assert proxies.proxy_of(host, proxies.rest_variables("http")) == ("http_proxy", "http://proxy:3128")
    assert proxies.proxy_of(host, proxies.rest_variables("https")) is None
    assert proxies.grpc_option(f"{host}:8500") == ("grpc.enable_http_proxy", 1)
    monkeypatch.setenv("no_proxy", host)
    assert proxies.proxy_of(host, proxies.rest_variables("http")) is None
