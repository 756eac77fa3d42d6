import os
import tempfile

os.environ.setdefault("DATA_DIR", tempfile.mkdtemp(prefix="colloquy-test-"))

from config.settings import *

if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # A file, as in production: a database in memory knows neither WAL nor a second writer.
    DATABASES["default"]["TEST"] = {"NAME": str(DATA_DIR / "test.sqlite3")}
else:
    # The clients' threads are in the server's process.
    DATABASES["default"]["OPTIONS"]["pool"]["max_size"] = 60

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

WHITENOISE_AUTOREFRESH = True  # else each test client reads all static files beforehand
