"""Which files are credentials, by the rules that belong to no platform: one table."""

from __future__ import annotations

from caliban.images.secret_content import is_key_or_key_store, is_not_public
from caliban.images.secret_rules import Rule, SecretFiles, mark, value_of

__all__ = ["GENERIC", "SecretFiles"]


_LONG = r"[^\s\"'{}\[\],]{16,}"
_SHORT = r"[^\s\"'{}\[\],]{4,}"
_NO_NUMBER = rf"(?!\d+\b|none|null|true|false){_SHORT}"
_TOKENS = {
    "hf_": "[A-Za-z0-9]{30,}",  # Hugging Face
    **{f"gh{kind}_": "[A-Za-z0-9]{36,}" for kind in "opsur"},  # GitHub
    "github_pat_": "[A-Za-z0-9_]{40,}",
    "glpat-": "[A-Za-z0-9_-]{20,}",  # GitLab
    "hvs.": "[A-Za-z0-9_-]{24,}",  # Vault
    **{f"xox{kind}-": "[A-Za-z0-9-]{20,}" for kind in "abeprs"},  # Slack
    "npm_": "[A-Za-z0-9]{36,}",
    "pypi-AgE": "[A-Za-z0-9_-]{50,}",
    "dckr_pat_": "[A-Za-z0-9_-]{20,}",  # Docker Hub
    **{f"{kind}_live_": "[A-Za-z0-9]{20,}" for kind in ("sk", "rk")},  # Stripe
    **{f"sk-{kind}-": "[A-Za-z0-9_-]{30,}" for kind in ("ant", "proj", "svcacct")},  # Anthropic, OpenAI
    "AGE-SECRET-KEY-1": "[A-Z0-9]{50,}",  # age
}

_PRIVATE_KEY = Rule(
    "a private key",
    names=(
        *("id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", "id_ecdsa_sk", "id_ed25519_sk"),
        *("*.ppk", "*.p8", "*.pk8", "ssh_host_*_key"),
    ),
)
_PRIVATE_KEY_TEXT = Rule(
    "a private key",
    # The first characters of the key must follow: a text about keys is not a key.
    text=(
        mark(
            r"""-----? ?begin (?:[a-z0-9]{1,20} ){0,4}private key(?: block)? ?-----?[\s#>|"'\\,+]{0,80}[a-z0-9+/]"""
            r"""|^putty-user-key-file-\d|-----begin openvpn static key|^privatekey\s{0,9}=\s{0,9}[a-z0-9+/]{43}=""",
            *("PRIVATE KEY", "PuTTY-User-Key-File-", "OpenVPN Static key", "PrivateKey"),
        ),
    ),
)
_JSON_WEB_KEY = Rule(
    "a private key", text=(mark(r'"kty"\s{0,20}:\s{0,20}"(?:rsa|ec|okp)"', '"kty"'), value_of("d", value=_LONG))
)
_KEY_FILE = Rule("a key", names=("*.key",), check=is_not_public)
_KEY_STORE = Rule(
    "a key store",
    names=(
        "*.p12",
        "*.pfx",
        "*.pkcs12",
        "*.jks",
        "*.jceks",
        "*.bks",
        "*.keystore",
        "*.kdb",
        "*.kdbx",
        "*.keytab",
        *("secring.gpg", "*.keychain", "*.keychain-db", "*.publishsettings"),
    ),
)
_BINARY_KEY = Rule("a private key or key store", check=is_key_or_key_store)
_ENVIRONMENT = Rule(
    "environment variables with secrets",
    names=(".env", ".env.*", "*.env", ".envrc", ".flaskenv"),
    # Templates have no values; `.env.py` is code.
    not_names=tuple(f"*{kind}*" for kind in ("example", "sample", "template", "dist", "default", "schema")),
)
_DIRECTORIES = Rule(
    "a directory with credentials",
    directories=(
        *(".aws", ".azure", ".creds", ".docker", ".gnupg", ".kaggle", ".oci", ".password-store", ".putty", ".secrets"),
        *(".ssh", ".terraform.d", ".chef", ".vault"),
    ),
)
_LOGINS = Rule(
    "a login",
    names=(
        *(".netrc", "_netrc", ".pgpass", "pgpass.conf", ".my.cnf", ".mylogin.cnf", ".pg_service.conf", ".msmtprc"),
        *(".git-credentials", "git/credentials", ".config/hub", "gh/hosts.yml", "gh/hosts.yaml", "glab-cli/config.yml"),
        *(".dockercfg", ".dockerconfigjson", ".docker/config.json", "containers/auth.json", ".composer/auth.json"),
        *(".npmrc", ".pypirc", "pip.conf", "pip.ini", ".gem/credentials", ".bundle/config"),
        *(".cargo/credentials", ".cargo/credentials.toml", ".m2/settings.xml", ".gradle/gradle.properties"),
        *(".huggingface/token", "huggingface/token", "huggingface/stored_tokens", "kaggle.json", ".comet.config"),
        *(".vault-token", ".vault_pass", ".vault-pass", ".vault_password", ".terraformrc", "terraform.rc"),
        *("credentials.tfrc.json", "*.tfvars", "*.tfvars.json", "*.tfstate", "*.tfstate.backup"),
        *(
            ".s3cfg",
            ".passwd-s3fs",
            "rclone.conf",
            ".databrickscfg",
            ".snowsql/config",
            ".modal.toml",
            ".mc/config.json",
        ),
        *("access_tokens.json", "accesstokens.json", "msal_token_cache.*", "service_principal_entries.*"),
        *("doctl/config.yaml", ".fly/config.yml", ".clearml.conf", "clearml.conf", ".dvc/config.local", ".htpasswd"),
        *(".snowflake/config.toml", ".dbt/profiles.yml", "pypoetry/auth.toml", "uv/credentials.toml", ".ossutilconfig"),
        *("client_secret.json", "client_secret*.json", "client_secrets.json", ".streamlit/secrets.toml"),
        *("secrets.json", "secrets.toml", "secrets.yml", "secrets.yaml", "secrets.ini", "*accesskeys.csv"),
    ),
    variables=(
        *("NETRC", "PGPASSFILE", "PIP_CONFIG_FILE", "NPM_CONFIG_USERCONFIG", "HF_TOKEN_PATH", "TF_CLI_CONFIG_FILE"),
        *("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE", "RCLONE_CONFIG", "DATABRICKS_CONFIG_FILE"),
    ),
)
_NAMED_CREDENTIALS = Rule(
    "credentials",
    names=(
        *("credentials", "credentials.*", "token.json", "token.yml", "token.yaml", "*_token.json", "oauth*.json"),
        *("clouds.yaml", "profiles.yml", "connections.toml", "auth.json", "auth.toml", "*credential*.json"),
    ),
    text=(
        value_of(
            *("password", "passwd", "secret", "secret_key", "access_token", "refresh_token", "id_token", "auth_token"),
            *("api_key", "apikey", "private_key", "access_key", "token_secret", "client_secret"),
            value=_NO_NUMBER,
        ),
    ),
)
_TOKEN_CACHE = Rule("a login", names=("token.pickle", "token.pkl", "*_token.pickle"))
_WANDB = Rule("a login", names=("wandb/settings",), text=(value_of("api_key"),))
_LOGIN_IN_URL = Rule(
    "a login",
    names=(".git/config", ".gitmodules", ".hg/hgrc", ".condarc", ".yarnrc", ".yarnrc.yml"),
    text=(mark(r"://[^\s/@:]{0,100}:[^\s/@]{1,300}@|://[^\s/@:]{20,300}@|/t/[\w-]{8,}/", "@", "/t/"),),
)
_NETRC = Rule(
    "a login",
    text=(mark(r"machine\s{1,20}\S{1,200}\s{1,80}login\s{1,20}\S{1,200}\s{1,80}password\s", "machine"),),
)
_NETRC_START = Rule(
    "a login",
    text=(mark(r"\s{0,20}machine\s{1,20}\S{1,200}\s{1,80}password\s", "machine", is_start=True),),
)
_GIT_LOGIN = Rule(
    "a login", text=(mark(r"\s{0,9}https?://[^\s/@:]{1,200}:[^\s/@]{1,300}@\S{1,300}\s{0,9}$", "://", is_start=True),)
)
_REGISTRY_LOGIN = Rule(
    "a login", text=(mark('"auths"', '"auths"'), value_of("auth", "identitytoken", "password", value=_SHORT))
)
_NPM_LOGIN = Rule("a login", text=(mark(r"authtoken\"?\s{0,20}[:=]\s{0,20}\"?[\w+/-]{8}", "authtoken"),))
_CLOUD_KEYS = Rule(
    "a cloud access key",
    text=(
        mark(
            r"secret_?access_?key[\"']?\s{0,20}[:=]\s{0,20}[\"']?(?![a-z0-9/+]{0,60}example)[a-z0-9/+]{30,}"
            r"|secret access key\"?\s{0,4}[\r\n]|accountkey=[a-z0-9+/]{40,}",
            *("secret_access_key", "secretaccesskey", "secret access key", "AccountKey="),
        ),
    ),
)
_AZURE_LOGIN = Rule("a login", text=(value_of("clientId"), value_of("clientSecret", value=_LONG)))
_KAGGLE = Rule("a login", text=(value_of("username"), value_of("key", value=r"[0-9a-f]{32}\b")))
_TOKEN = Rule(
    "an access token",
    text=(
        mark(
            rf"(?<![\w-])(?:{'|'.join(start.replace('.', '[.]') + rest for start, rest in _TOKENS.items())})",
            *_TOKENS,
            is_exact=True,
        ),
    ),
)
_OAUTH_CLIENT = Rule("an OAuth client secret", text=(value_of("client_id"), value_of("client_secret", value=_LONG)))
_OAUTH_TOKEN = Rule(
    "an OAuth token",
    text=(
        value_of("refresh_token", value=_LONG),
        value_of("access_token", "token", "client_id", "id_token", value=_LONG),
    ),
)

GENERIC = SecretFiles(
    rules=(
        *(_PRIVATE_KEY, _PRIVATE_KEY_TEXT, _JSON_WEB_KEY, _KEY_FILE, _KEY_STORE, _BINARY_KEY),
        *(_ENVIRONMENT, _DIRECTORIES, _LOGINS, _NAMED_CREDENTIALS, _TOKEN_CACHE, _WANDB, _LOGIN_IN_URL),
        *(
            _NETRC,
            _NETRC_START,
            _GIT_LOGIN,
            _REGISTRY_LOGIN,
            _AZURE_LOGIN,
            _NPM_LOGIN,
            _CLOUD_KEYS,
            _KAGGLE,
            _TOKEN,
            _OAUTH_CLIENT,
            _OAUTH_TOKEN,
        ),
    )
)
"""The rules that belong to no platform."""
