"""Google's credentials files."""

from __future__ import annotations

import re

from caliban.images.secret_rules import Rule, SecretFiles

_VALUE = rb"""[\"']?\s{0,20}[:=]\s{0,20}[\"']?[^\s\"',]"""

SECRET_FILES = SecretFiles(
    rules=(
        Rule(
            "a Google login",
            # gcloud's configuration directory has tokens and keys of every account that logged in.
            directories=(".config/gcloud", "gcloud/legacy_credentials"),
            names=(
                *("application_default_credentials.json", ".boto", "gcloud/access_tokens.db", "gcloud/credentials.db"),
                *("gcloud/legacy_credentials", ".gsutil/credstore*", "earthengine/credentials"),
            ),
            variables=("GOOGLE_APPLICATION_CREDENTIALS", "CLOUDSDK_AUTH_CREDENTIAL_FILE_OVERRIDE", "BOTO_CONFIG"),
        ),
        # Key files, and what `gcloud auth application-default login` writes (google.auth's formats), in any larger
        # file: the end of the type, of which there are several each, and the secret.
        Rule(
            "a Google service account key",
            text=(
                re.compile(rb"service_account[\"']?[ \t]{0,20}(?:[,}\r\n]|\Z)"),
                re.compile(rb"\bprivate_key\b" + _VALUE),
            ),
        ),
        Rule(
            "a Google login",
            text=(re.compile(rb"authorized_user\b"), re.compile(rb"\brefresh_token\b" + _VALUE)),
        ),
        Rule(
            "a Google token",
            # Client secrets, access tokens and refresh tokens.
            text=(re.compile(rb"(?<![\w-])(?:GOCSPX-[\w-]{20,}|ya29\.[\w-]{20,}|1//0[\w-]{30,})"),),
        ),
    )
)
