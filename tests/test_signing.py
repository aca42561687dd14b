import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltr_pipeline.errors import SettingsError
from ltr_pipeline.signing import PUBLIC, Secret, make_private_key, public_keys, sign, signed, signing_keys

PRIVATE, OTHER = make_private_key(), make_private_key()
SECRET = "a-shared-secret-of-some-length"
KINDS = [PRIVATE, SECRET]


@pytest.mark.parametrize("text", KINDS, ids=["ed25519", "secret"])
@given(content=st.binary(), other=st.binary())
def test_a_signature_holds_for_its_content_alone(text, content, other):
    keys = signing_keys(text)
    signature = sign(content, keys)
    assert signature == sign(content, keys)  # a retried task writes the same bytes
    assert signed(content, signature, keys)
    assert signed(other, signature, keys) == (content == other)


def test_a_public_key_verifies_and_cannot_sign():
    (public,) = public_keys(signing_keys(PRIVATE))
    keys = signing_keys("", public)
    assert sign(b"x", keys) is None
    assert signed(b"x", sign(b"x", signing_keys(PRIVATE)), keys)
    assert not signed(b"x", sign(b"x", signing_keys(OTHER)), keys)
    assert PRIVATE.partition(":")[2] not in public
    assert public_keys(keys) == [public]


def test_a_team_can_move_from_a_secret_to_a_pair():
    former = sign(b"x", signing_keys(SECRET))
    keys = signing_keys(f"{PRIVATE} {SECRET}")
    assert signed(b"x", former, keys)
    assert sign(b"x", keys).startswith("ed25519:")
    assert public_keys(keys) == public_keys(signing_keys(PRIVATE))


@pytest.mark.parametrize(
    "signature", ["", "ed25519:", "ed25519:zz", f"ed25519:{'0' * 128}", "hmac-sha256:", "é", "none"]
)
@pytest.mark.parametrize("text", KINDS, ids=["ed25519", "secret"])
def test_what_is_no_signature_is_refused(text, signature):
    assert not signed(b"x", signature, signing_keys(text))


@pytest.mark.parametrize(
    ("signing", "verifying", "message"),
    [
        ("short", "", "LTR_SIGNING_KEY: key 1 is shorter than 16 bytes"),
        (f"{SECRET} tiny", "", "LTR_SIGNING_KEY: key 2 is shorter"),
        (f"ed25519:{SECRET}", "", "LTR_SIGNING_KEY: key 1 is not ed25519: and 64 hex digits"),
        ("", f"{PUBLIC}00", "LTR_VERIFY_KEYS: key 1 is not ed25519-public:"),
        (PUBLIC + "0" * 64, "", "key 1 is public and cannot sign; put it into LTR_VERIFY_KEYS"),
    ],
)
def test_a_wrong_key_is_named_without_being_shown(signing, verifying, message):
    with pytest.raises(SettingsError, match=message) as caught:
        signing_keys(signing, verifying)
    assert SECRET not in str(caught.value)


def test_a_key_never_shows_its_secret():
    assert SECRET not in repr(signing_keys(SECRET))
    assert "seed" not in repr(signing_keys(PRIVATE))
    assert Secret(b"x") == Secret(b"x")
