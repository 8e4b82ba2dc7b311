# The commands of this repository; README.md says what they are for, CONTRIBUTING.md how they fit together.
#
#   make build     release programs in target/release
#   make run       an instance under target/run on loopback, in the foreground
#   make test      everything, as the gate runs it: checks, unit tests, system tests, list of skips
#   make check     the quick offline part of it
#   make conformance  tests/conformance/README.md from the tables beside it
#   make count     counts the instructions of the hot paths anew (tests/count/counts.txt)
#   make fuzz      every fuzz target for FUZZ_SECONDS (3600), two at a time
#   make bench     SPS beside Debian's Kamailio and a bare forwarder; BENCH_SECONDS=n lengthens each run
#   make install   programs, pages, samples, completions; honours DESTDIR and PREFIX
#   make clean

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

CARGO ?= cargo
DESTDIR ?=
PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
BENCH_SECONDS ?= 5
RUN_PORT ?= 5060
RUN_DOMAIN ?= localhost

TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))
PROGRAMS := sps-master sps-proxy sps-registrar sps-tls spsctl spsroute
TOOLS := spsctl spsroute
PEERS := sip-tester sipsak baresip kamailio bind9 kamailio-tls-modules openssl tshark groff-base valgrind
# Where install takes the programs from; another place than the release folder is not built first.
BIN ?= $(TARGET)/release
SKIPS := $(TARGET)/skips.txt
LOG := $(TARGET)/test.log

FUZZ_SECONDS ?= 3600

.PHONY: build run test check fuzz conformance count bench install clean peers lint

build:
	$(CARGO) build --release --locked $(PROGRAMS:%=-p %)

run: build
	@printf '%s\n' \
	    'To place a call, in two more shells (SIPp is in the package sip-tester):' \
	    '  sipp -sn uas -i 127.0.0.1 -p 5070' \
	    '  $(TARGET)/release/spsctl --root $(TARGET)/run registration add sip:bob@$(RUN_DOMAIN) sip:bob@127.0.0.1:5070' \
	    '  sipp -sn uac -i 127.0.0.1 -p 5080 -s bob -m 1 127.0.0.1:$(RUN_PORT)' \
	    'A phone registers by itself: server 127.0.0.1:$(RUN_PORT), address sip:alice@$(RUN_DOMAIN), any password.' ''
	scripts/run.sh "$(TARGET)/release" "$(TARGET)/run" "$(RUN_DOMAIN)" "$(RUN_PORT)"

# Formatting and lints. Distributions pack rustfmt and clippy apart from rustc, so their absence is a skip, not a failure.
lint:
	if $(CARGO) fmt --version >/dev/null 2>&1; then $(CARGO) fmt --all --check; \
	else echo "SPS-SKIP lint: rustfmt: not installed" | tee -a "$(SKIPS)"; fi
	if $(CARGO) clippy --version >/dev/null 2>&1; then $(CARGO) clippy --locked --workspace --all-targets -- -D warnings; \
	else echo "SPS-SKIP lint: clippy: not installed" | tee -a "$(SKIPS)"; fi
	scripts/check-layers.sh
	if command -v groff >/dev/null; then scripts/check-pages.sh; \
	else echo "SPS-SKIP lint: groff: not installed" | tee -a "$(SKIPS)"; fi

# Unit tests, and the system tests that need neither network nor peers: pages against flags and keys.
check: lint
	$(CARGO) build --locked --workspace --bins
	SPS_BIN_DIR="$(TARGET)/debug" $(CARGO) test --locked --workspace --lib --bins
	SPS_BIN_DIR="$(TARGET)/debug" $(CARGO) test --locked -p sps-tests --test man_pages --test conformance

# A failed check or test does not keep the others from running; all of it is told at the end.
test: peers
	mkdir -p "$(TARGET)"
	: > "$(SKIPS)"
	status=0; \
	$(MAKE) --no-print-directory lint || { status=1; echo "== lint failed; the tests run all the same"; }; \
	$(CARGO) build --locked --workspace --bins; \
	$(CARGO) build --release --locked -p sps-count; \
	SPS_BIN_DIR="$(TARGET)/debug" SPS_COUNT="$(TARGET)/release/sps-count" SPS_SKIPS="$(SKIPS)" $(CARGO) test --locked --workspace --no-fail-fast 2>&1 \
	    | tee "$(LOG)" || status=1; \
	scripts/fuzz.sh 10 || status=1; \
	tests/summary.sh "$(LOG)" "$(SKIPS)" tests/SKIPS.md || status=1; \
	[ $$status -eq 0 ] || echo "== FAILED"; \
	exit $$status

# The corpus is replayed by `make test`, which also fuzzes each target for ten seconds.
fuzz:
	scripts/fuzz.sh $(FUZZ_SECONDS)

# Foreign peers from the distribution. Without them, and without the right to install them, their tests are skipped and say so.
peers:
	tests/peers.sh $(PEERS)

# Which test shows which clause of which RFC.
conformance:
	$(CARGO) run --locked -p sps-tests --bin sps-conformance

count:
	tests/peers.sh valgrind
	$(CARGO) build --release --locked -p sps-count
	SPS_COUNT="$(TARGET)/release/sps-count" SPS_COUNT_WRITE=1 $(CARGO) test --locked -p sps-tests --test instructions
	@git --no-pager diff --stat -- tests/count/counts.txt

bench: build
	$(CARGO) build --release --locked -p sps-tests --bin sps-bench
	"$(TARGET)/release/sps-bench" run --bin-dir "$(TARGET)/release" --seconds "$(BENCH_SECONDS)" --results tests/bench/RESULTS.md

install: $(if $(filter $(TARGET)/release,$(BIN)),build)
	install -d "$(DESTDIR)$(PREFIX)/bin" "$(DESTDIR)$(PREFIX)/sbin"
	install -m 0755 $(TOOLS:%="$(BIN)/%") "$(DESTDIR)$(PREFIX)/bin/"
	install -m 0755 $(patsubst %,"$(BIN)/%",$(filter-out $(TOOLS),$(PROGRAMS))) "$(DESTDIR)$(PREFIX)/sbin/"
	for page in man/*.[1-8]; do \
	    install -D -m 0644 "$$page" "$(DESTDIR)$(PREFIX)/share/man/man$${page##*.}/$${page##*/}"; \
	done
	install -D -m 0644 etc/sps.toml "$(DESTDIR)$(PREFIX)/share/doc/sps/sps.toml"
	install -D -m 0755 scripts/office.sh "$(DESTDIR)$(PREFIX)/share/doc/sps/office.sh"
	test -e "$(DESTDIR)$(SYSCONFDIR)/sps/sps.toml" || \
	    install -D -m 0644 etc/sps.toml "$(DESTDIR)$(SYSCONFDIR)/sps/sps.toml"
	install -D -m 0644 etc/logrotate.d/sps "$(DESTDIR)$(SYSCONFDIR)/logrotate.d/sps"
	install -D -m 0644 etc/sysusers.d/sps.conf "$(DESTDIR)$(PREFIX)/lib/sysusers.d/sps.conf"
	install -D -m 0644 etc/tmpfiles.d/sps.conf "$(DESTDIR)$(PREFIX)/lib/tmpfiles.d/sps.conf"
	install -d "$(DESTDIR)$(PREFIX)/lib/systemd/system"
	sed 's|@PREFIX@|$(PREFIX)|g' etc/systemd/sps.service > "$(DESTDIR)$(PREFIX)/lib/systemd/system/sps.service"
	chmod 0644 "$(DESTDIR)$(PREFIX)/lib/systemd/system/sps.service"
	install -d "$(DESTDIR)$(PREFIX)/share/bash-completion/completions" "$(DESTDIR)$(PREFIX)/share/zsh/site-functions" \
	    "$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d"
	for tool in $(TOOLS); do \
	    "$(BIN)/$$tool" completions bash > "$(DESTDIR)$(PREFIX)/share/bash-completion/completions/$$tool"; \
	    "$(BIN)/$$tool" completions zsh > "$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_$$tool"; \
	    "$(BIN)/$$tool" completions fish > "$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/$$tool.fish"; \
	done

clean:
	$(CARGO) clean
