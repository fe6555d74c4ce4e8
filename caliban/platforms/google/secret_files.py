"""Google's credentials files."""

from __future__ import annotations

from caliban.images.secret_rules import Rule, SecretFiles, mark, value_of

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
                mark(r"service_account[\"']?[ \t]{0,20}(?:[,}\r\n]|\Z)", "service_account"),
                value_of("private_key"),
            ),
        ),
        Rule("a Google login", text=(mark(r"authorized_user\b", "authorized_user"), value_of("refresh_token"))),
        Rule(
            "a Google token",
            # Client secrets, access tokens and refresh tokens.
            text=(
                mark(
                    r"GOCSPX-[\w-]{20,}|ya29\.[\w-]{20,}|(?<![\w/+-])1//0[\w-]{30,}",
                    *("GOCSPX-", "ya29.", "1//0"),
                    is_exact=True,
                ),
            ),
        ),
    )
)
