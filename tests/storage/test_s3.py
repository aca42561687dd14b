"""S3 on a real server: what is lost, cut, away, refused or wrongly set."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import boto3
import pytest

from deploy.native.minio import BUCKET, S3Server
from ltr_pipeline.errors import AlreadyExistsError, LtrError, SettingsError, StorageError
from ltr_pipeline.local.ports import free_port
from ltr_pipeline.settings import load_settings
from ltr_pipeline.storage.base import Storage
from ltr_pipeline.storage.options import S3Options
from ltr_pipeline.storage.uri import open_storage
from ltr_pipeline.versions.registry import Registry
from support import certificates
from support.documents import document
from support.forks import BY, A, B
from support.proxy import Proxy
from support.unconditional import without_conditions


@pytest.fixture
def proxy(s3_server: S3Server) -> Iterator[Proxy]:
    with Proxy("127.0.0.1", s3_server.port) as running:
        yield running


def place(options: S3Options, **changed: object) -> Storage:
    return open_storage(f"s3://{BUCKET}/{uuid4().hex}", dataclasses.replace(options, **changed))


@pytest.fixture
def proxied(proxy: Proxy, s3_options: S3Options) -> Storage:
    """A place on the real server, reached through the proxy."""
    storage = place(s3_options, endpoint=f"http://127.0.0.1:{proxy.port}", timeout_seconds=5)
    storage.create("first", b"")  # conditions are tried out now, not while answers are lost
    return storage


def test_a_create_whose_answer_was_lost_is_no_loss(proxied, proxy):
    for n in range(5):
        proxy.drop_answers(b"PUT ")
        proxied.create(f"k{n}", b"ours")
    assert proxy.dropped == 5
    assert [proxied.get(f"k{n}") for n in range(5)] == [b"ours"] * 5
    proxy.drop_answers(b"PUT ")
    with pytest.raises(AlreadyExistsError):
        proxied.create("k0", b"theirs")
    assert proxied.get("k0") == b"ours"


def test_a_create_all_of_whose_answers_were_lost_is_looked_for(proxied, proxy):
    proxy.drop_answers(b"PUT ", times=proxied.options.attempts)
    proxied.create("k", b"ours")
    assert proxy.dropped == proxied.options.attempts
    assert proxied.get("k") == b"ours"


def test_a_move_whose_answers_were_lost_is_made_once(proxied, proxy):
    registry = Registry(proxied)
    for version in (A, B):
        proxy.drop_answers(b"PUT ", times=3)  # of the version, of the entry, of latest
        assert registry.publish(document(version), move_id=f"run-{version}", **BY).moved
        assert registry.publish(document(version), move_id=f"run-{version}", **BY).moved
    proxy.drop_answers(b"PUT ", times=2)
    assert registry.rollback(A, move_id="op", **BY).to == A
    assert proxy.dropped == 8
    assert [(move.move, move.to) for move in registry.history()] == [("publish", A), ("publish", B), ("rollback", A)]
    assert proxied.get("latest/ltr_weights.json") == proxied.get(f"{A}/ltr_weights.json")


def test_an_answer_cut_in_its_middle_is_asked_for_again(proxied, proxy):
    content = os.urandom(3_000_000)
    proxied.put("large", content)
    for after in (1_000, 1_500_000, 2_900_000):
        proxy.cut_now()
        proxy.cut(after, times=2)
        assert proxied.get("large") == content
        proxy.cut_now()
        proxy.cut(after)
        with proxied.local_file("large") as path:
            assert path.read_bytes() == content
    assert proxy.cuts == 9
    proxy.cut(0, times=100)
    with pytest.raises(StorageError, match="S3_ENDPOINT"):
        proxied.get("large")


def test_a_server_that_never_answers_is_given_up(s3_options, proxy):
    options = dataclasses.replace(s3_options, timeout_seconds=0.3, attempts=2)
    storage = place(options, endpoint=f"http://127.0.0.1:{proxy.port}")
    proxy.silent = True
    for verb in (lambda: storage.get("k"), lambda: storage.create("k", b""), storage.keys):
        with pytest.raises(StorageError, match="LTR_S3_TIMEOUT_SECONDS"):
            verb()


def test_a_server_that_is_away_and_comes_back(tmp_path, s3_options):
    server = S3Server(tmp_path / "own")
    server.start()
    try:
        server.make_bucket()
        options = dataclasses.replace(
            s3_options,
            endpoint=server.endpoint,
            access_key_id=server.access_key_id,
            secret_access_key=server.secret_access_key,
        )
        hasty, patient = place(options, attempts=1), place(options, attempts=12)
        hasty.put("k", b"v")
        server.stop(signal.SIGKILL)
        with pytest.raises(StorageError, match=f"{server.port}.*does not answer.*check that it runs, S3_ENDPOINT"):
            hasty.get("k")
        back = threading.Timer(1, server.start)
        back.start()
        patient.create("k", b"late")
        back.join()
        assert (hasty.get("k"), patient.get("k")) == (b"v", b"late")
        server.stop()
    finally:
        server.stop()


def test_large_files_go_in_several_parts_and_stay_whole(s3_storage, s3_server, tmp_path):
    content = os.urandom(1 << 20) * 40
    (tmp_path / "in").write_bytes(content)
    s3_storage.put_file("t/x.parquet", tmp_path / "in")
    found = s3_server.client().head_object(Bucket=BUCKET, Key=f"{s3_storage.prefix}/t/x.parquet")
    assert found["ETag"].strip('"').endswith("-3")  # 16 + 16 + 8 MiB
    with s3_storage.local_file("t/x.parquet") as path:
        assert path.read_bytes() == content
    assert not path.exists()
    assert not path.parent.exists()


def test_keys_are_listed_past_the_first_page(s3_storage, s3_server):
    keys = [f"many/{n:04}" for n in range(1005)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda key: s3_storage.put(key, b""), keys))
    s3_server.client().put_object(Bucket=BUCKET, Key=f"{s3_storage.prefix}/folder/", Body=b"")  # as consoles make them
    s3_storage.create("a", b"")  # leaves what conditions were tried out on
    assert s3_storage.keys() == ["a", *keys]


def test_disk_only_users_never_load_boto3():
    script = (
        "import sys; from ltr_pipeline import settings; from ltr_pipeline.storage.uri import open_storage;"
        "open_storage('/tmp/x');"
        "assert not any(name.startswith(('boto', 's3transfer')) for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_a_server_without_conditional_writes_is_refused(s3_server, s3_options):
    for not_implemented in (False, True):
        with without_conditions(s3_server, not_implemented=not_implemented) as endpoint:
            storage = place(s3_options, endpoint=endpoint)
            for _ in range(2):
                with pytest.raises(SettingsError, match=r"If-None-Match.*MinIO.*LTR_S3_UNCONDITIONAL=allow"):
                    storage.create("k", b"v")
            assert storage.keys() == []
            storage.put("k", b"v")
            assert storage.get("k") == b"v"


def test_a_server_without_conditional_writes_is_used_when_asked_for(s3_server, s3_options):
    with without_conditions(s3_server) as endpoint:
        storage = place(s3_options, endpoint=endpoint, allow_unconditional=True)
        storage.create("k", b"first")
        with pytest.raises(AlreadyExistsError):
            storage.create("k", b"second")
        assert storage.get("k") == b"first"
        assert storage.keys() == ["k"]


SECRET = "S3cr3t-that-nobody-may-see"


def told(error: BaseException) -> str:
    """All that a log would show of an error, and what led to it."""
    return "".join(traceback.format_exception(error)) + repr(error)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"secret_access_key": SECRET}, "AWS_SECRET_ACCESS_KEY"),
        ({"access_key_id": "nobody", "secret_access_key": SECRET}, "AWS_ACCESS_KEY_ID"),
        ({"session_token": SECRET}, "AWS_SESSION_TOKEN|AWS_ACCESS_KEY_ID"),
        ({"secret_access_key": SECRET + "\n"}, "AWS_SECRET_ACCESS_KEY is empty or holds white space"),
        ({"session_token": SECRET + "\n"}, "AWS_SESSION_TOKEN is empty or holds white space"),
        ({"access_key_id": None}, "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY belong together"),
        ({"endpoint": "localhost:9000"}, "S3_ENDPOINT"),
        ({"endpoint": "http://"}, "S3_ENDPOINT"),
        ({"endpoint": "http://host:port"}, "S3_ENDPOINT"),
        ({"endpoint": "http://host:99999"}, "S3_ENDPOINT"),
        ({"endpoint": "http://host/minio/ui"}, "S3_ENDPOINT"),
        ({"endpoint": "http://ho st"}, "S3_ENDPOINT"),
        ({"endpoint": "http://ho\nst"}, "S3_ENDPOINT"),
        ({"endpoint": " http://host"}, "S3_ENDPOINT"),
        ({"endpoint": "http://host:0"}, "S3_ENDPOINT"),
        ({"endpoint": "http://-ho..st"}, "S3_ENDPOINT"),
        ({"endpoint": "ftp://host"}, "S3_ENDPOINT"),
        ({"endpoint": f"http://user:{SECRET}@host"}, "S3_ENDPOINT holds credentials"),
        ({"endpoint": f"http://user:{SECRET}@[host"}, "S3_ENDPOINT"),
        ({"region": "not a region"}, "AWS_REGION"),
        ({"ca_file": Path("none.pem")}, "LTR_S3_CA_FILE none.pem is no file"),
        ({"ca_file": Path(__file__)}, "LTR_S3_CA_FILE .*no PEM bundle"),
        ({"timeout_seconds": 0}, "LTR_S3_TIMEOUT_SECONDS"),
    ],
)
def test_a_wrong_value_is_an_error_that_names_it_and_shows_no_secret(s3_options, changed, named):
    def use() -> None:
        place(s3_options, **changed).create("k", b"v")

    with pytest.raises(SettingsError, match=named) as caught:
        use()
    for secret in (SECRET, s3_options.secret_access_key):
        assert secret not in told(caught.value)
    assert SECRET not in repr(S3Options(access_key_id="a", secret_access_key=SECRET, session_token=SECRET))


def test_without_any_credentials_the_error_says_which_to_set(s3_options, tmp_path):
    script = (
        "from ltr_pipeline.errors import SettingsError; from ltr_pipeline.storage.options import S3Options\n"
        "from ltr_pipeline.storage.uri import open_storage\n"
        f"try: open_storage('s3://{BUCKET}/x', S3Options(endpoint='{s3_options.endpoint}')).get('k')\n"
        "except SettingsError as error: assert 'AWS_ACCESS_KEY_ID' in str(error), error\n"
        "else: raise SystemExit('no error')"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment |= {"HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true"}
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60, env=environment)


def test_a_bucket_that_is_not_there_is_an_error_that_names_it(s3_options):
    storage = open_storage("s3://not-there/ltr", s3_options)
    for verb in (
        lambda: storage.get("k"),
        lambda: storage.put("k", b""),
        lambda: storage.create("k", b""),
        storage.keys,
    ):
        with pytest.raises(SettingsError, match=r"make the bucket not-there or correct its address"):
            verb()


def test_a_bucket_that_is_not_there_names_the_variable_that_named_it(s3_options, tmp_path):
    server = {
        "s3_endpoint": s3_options.endpoint,
        "s3_access_key_id": s3_options.access_key_id,
        "s3_secret_access_key": s3_options.secret_access_key,
    }
    settings = load_settings(data_uri="s3://not-there/data", s3_bucket="not-there-too", **server)
    with pytest.raises(SettingsError, match=r"make the bucket not-there or correct LTR_DATA_URI$"):
        settings.data.keys()
    with pytest.raises(SettingsError, match=r"make the bucket not-there-too or correct S3_BUCKET$"):
        settings.registry.versions()
    settings = load_settings(data_uri=str(tmp_path), registry_uri="s3://not-there/models", **server)
    with pytest.raises(SettingsError, match=r"make the bucket not-there or correct LTR_REGISTRY_URI$"):
        settings.registry.versions()


@pytest.mark.parametrize(
    ("uri", "named"),
    [
        *(
            (f"s3://{bucket}/ltr", "no bucket name")
            for bucket in ("", "ab", "Upper", "a..b", "-ab", "10.0.0.1", "a_b", "a" * 64)
        ),
        *((f"s3://bucket/{prefix}", "no prefix") for prefix in ("..", "a/../b", "a//b", "./a", "a b", "a?b", "ü")),
    ],
)
def test_names_that_cannot_be_are_refused_before_anything_is_asked(uri, named):
    with pytest.raises(SettingsError, match=named):
        open_storage(uri)


def test_credentials_in_an_address_are_refused_and_not_shown():
    with pytest.raises(SettingsError, match="AWS_ACCESS_KEY_ID") as caught:
        open_storage(f"s3://me:{SECRET}@bucket/ltr")
    assert SECRET not in told(caught.value)


def session(server: S3Server, *statements: dict[str, object]) -> dict[str, str]:
    """Credentials of somebody who may do no more than the statements say."""
    sts = boto3.client(
        "sts",
        endpoint_url=server.endpoint,
        region_name="us-east-1",
        aws_access_key_id=server.access_key_id,
        aws_secret_access_key=server.secret_access_key,
    )
    policy = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
    role = sts.assume_role(RoleArn="arn:aws:iam::1:role/x", RoleSessionName="tests", Policy=policy)["Credentials"]
    return {
        "access_key_id": role["AccessKeyId"],
        "secret_access_key": role["SecretAccessKey"],
        "session_token": role["SessionToken"],
    }


def allow(*actions: str, resource: str) -> dict[str, object]:
    return {
        "Effect": "Allow",
        "Action": [f"s3:{action}" for action in actions],
        "Resource": [f"arn:aws:s3:::{resource}"],
    }


def test_without_permission_the_error_says_what_is_missing(s3_server, s3_options):
    reader = session(s3_server, allow("ListBucket", resource=BUCKET), allow("GetObject", resource=f"{BUCKET}/*"))
    storage = place(s3_options, **reader)
    assert storage.keys() == []
    for verb in (lambda: storage.put("k", b""), lambda: storage.create("k", b""), lambda: storage.delete("k")):
        with pytest.raises(SettingsError, match=rf"AWS_ACCESS_KEY_ID the permissions.*bucket {BUCKET}") as caught:
            verb()
        assert reader["secret_access_key"] not in told(caught.value)


def test_the_documented_permissions_are_enough(s3_server, s3_options, tmp_path):
    prefix = uuid4().hex
    enough = session(
        s3_server,
        allow("ListBucket", resource=BUCKET),
        allow("GetObject", "PutObject", "DeleteObject", "AbortMultipartUpload", resource=f"{BUCKET}/{prefix}/*"),
    )
    storage = open_storage(f"s3://{BUCKET}/{prefix}", dataclasses.replace(s3_options, **enough))
    (tmp_path / "in").write_bytes(b"\0" * (20 << 20))
    storage.create("v1/d", b"one")
    storage.put_file("big", tmp_path / "in")
    storage.point("latest/d", "v1/d")
    assert not storage.exists("v2/d")
    assert storage.get("latest/d") == b"one"
    storage.delete("big")
    assert storage.keys() == ["latest/d", "v1/d"]


def test_a_private_authority_is_trusted_when_it_is_named(tmp_path, s3_options):
    server = S3Server(tmp_path / "tls", certificates=tmp_path / "certificates")
    authority = certificates.issue(tmp_path / "certificates")
    other = certificates.issue(tmp_path / "other")
    options = dataclasses.replace(
        s3_options,
        endpoint=server.endpoint,
        access_key_id=server.access_key_id,
        secret_access_key=server.secret_access_key,
        attempts=2,
    )
    server.start()
    try:
        trusting = place(options, ca_file=authority)
        trusting._client.create_bucket(Bucket=BUCKET)
        trusting.create("k", b"v")
        assert trusting.get("k") == b"v"
        for changed in ({}, {"ca_file": other}, {"ca_file": authority, "endpoint": f"https://localhost:{server.port}"}):
            with pytest.raises(SettingsError, match=r"not trusted.*LTR_S3_CA_FILE"):
                place(options, **changed).get("k")
        with pytest.raises(LtrError, match=r"http or https.*S3_ENDPOINT|S3_ENDPOINT.*http or https"):
            place(options, endpoint=server.endpoint.replace("https", "http")).get("k")
    finally:
        server.stop()
    with pytest.raises(SettingsError, match="use http:// in S3_ENDPOINT"):
        place(s3_options, endpoint=s3_options.endpoint.replace("http", "https"), attempts=2).get("k")


def test_what_is_no_s3_server_is_a_storage_error(s3_options):
    with pytest.raises(LtrError, match="S3_ENDPOINT"):
        place(s3_options, endpoint=f"http://127.0.0.1:{free_port()}", attempts=1).get("k")
