"""Google's credentials files."""

from __future__ import annotations

from caliban.images.secret_files import SecretFiles

SECRET_FILES = SecretFiles(
    names=frozenset({"application_default_credentials.json", ".boto"}),
    # gcloud's configuration directory (~/.config/gcloud) has tokens and keys of every account that logged in.
    names_in=frozenset({("gcloud", name) for name in ("access_tokens.db", "credentials.db", "legacy_credentials")}),
    # Key files, and what `gcloud auth application-default login` writes (google.auth's formats): the end of the type,
    # of which there are several each, and the secret.
    marks=frozenset({(b'service_account"', b'"private_key"'), (b'authorized_user"', b'"refresh_token"')}),
    variables=frozenset({"GOOGLE_APPLICATION_CREDENTIALS"}),
)
