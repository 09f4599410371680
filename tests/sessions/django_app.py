"""Sessions of Django in its cache in Redis: of Django's own backend and of django-redis, as JSON and pickled."""

import json
import os
import sys

import django
import django.conf
import django.http
import django.test
import django.urls
import django_redis

ADDRESS = f"redis://127.0.0.1:{os.environ['SESSIONS_REDIS_PORT']}/0"


class Json:
    """What the documentation of the cache asks a serializer to be."""

    def dumps(self, value):
        return json.dumps(value).encode()

    def loads(self, text):
        return json.loads(text)


def own(**options):
    return {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": ADDRESS, "OPTIONS": options}


def of_django_redis(**options):
    return {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": ADDRESS, "OPTIONS": options}


CACHES = {
    "default": own(),
    "own, JSON": own(serializer=__name__ + ".Json"),
    "own, pickled": own(),
    "django-redis, JSON": of_django_redis(SERIALIZER="django_redis.serializers.json.JSONSerializer"),
    "django-redis, pickled": of_django_redis(),
    "django-redis, compressed": of_django_redis(COMPRESSOR="django_redis.compressors.zlib.ZlibCompressor"),
}


def view(request):
    if request.method == "POST":
        request.session.update(json.loads(request.body))
    return django.http.JsonResponse(dict(request.session.items()))


urlpatterns = [django.urls.path("", view)]
django.conf.settings.configure(
    ALLOWED_HOSTS=["*"],
    CACHES=CACHES,
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="secret",
    SESSION_ENGINE="django.contrib.sessions.backends.cache",
)
django.setup()

contents = json.load(sys.stdin)
for cache in list(CACHES)[1:]:
    made_by = f"Django {django.__version__}"
    if cache.startswith("django-redis"):
        made_by += ", django-redis " + ".".join(map(str, django_redis.VERSION))
    for name, content in contents.items():
        if not cache.endswith("JSON") and name not in ("plain", "long"):
            continue
        with django.test.override_settings(SESSION_CACHE_ALIAS=cache):
            client = django.test.Client()
            if not content:
                continue
            client.post("/", json.dumps(content), content_type="application/json")
            key = client.cookies["sessionid"].value
            said = client.get("/").json()
        found = {"said": said} if cache.endswith("JSON") else {"miss": "foreign_type"}
        fields = {"case": f"{name}, {cache}", "format": "django", "name": "sessionid", "made_by": made_by, "secrets": []}
        prefix = ":1:django.contrib.sessions.cache"
        print(json.dumps({**fields, "prefix": prefix, "id": key, "cookie": "sessionid=" + key, **found}))
