# dkimroll. `make demo` shows the main job on loopback, `make check` builds and passes all tests; both install what is missing.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := all

VERSION := 0.1.0
PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
UNITDIR ?= $(if $(filter /usr,$(PREFIX)),/lib/systemd/system,$(SYSCONFDIR)/systemd/system)
DESTDIR ?=
BUILD ?= build
CC := gcc
SANITIZE ?=
# Jobs of our own, whether or not make was called with -j.
JOBS := $(shell nproc)

PACKAGES_BUILD := gcc libc6-dev make pkg-config libssl-dev libyaml-dev libldns-dev libsystemd-dev libsqlite3-dev libsmartcols-dev
PACKAGES_DEMO := bind9 bind9-dnsutils bind9-utils knot opendkim opendkim-tools python3 python3-dkim python3-dnspython procps
PACKAGES_CHECK := libcmocka-dev libopendkim-dev dbus-daemon knot-dnsutils clang-tidy cppcheck mandoc bash-completion systemd

LIBRARIES := openssl yaml-0.1 libsystemd sqlite3 smartcols
WARNINGS := -Wall -Wextra -Wshadow -Wconversion -Wformat=2 -Wstrict-prototypes -Wmissing-prototypes -Wundef -Wvla -Wnull-dereference -Werror -fno-common
HARDENING := -fstack-protector-strong -fstack-clash-protection -fPIE
comma := ,
ifeq ($(SANITIZE),)
OPTIMISE := -O2 -D_FORTIFY_SOURCE=2
else
OPTIMISE := -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
endif
CPPFLAGS += -Iinclude -D_GNU_SOURCE -DDKIMROLL_VERSION='"$(VERSION)"'
CFLAGS += -std=gnu17 -g $(OPTIMISE) $(WARNINGS) $(HARDENING) -MMD -MP
LDFLAGS += -pie -Wl,-z,relro,-z,now $(if $(SANITIZE),-fsanitize=address$(comma)undefined)
LDLIBS += $(shell pkg-config --libs $(LIBRARIES) 2>/dev/null) -lldns

# ONLY="src/base/*.c src/key/*.c" builds a part, while another part is under work.
ONLY ?= src/*/*.c
SOURCES := $(filter-out src/main.c,$(wildcard $(ONLY)))
OBJECTS := $(SOURCES:%.c=$(BUILD)/%.o)
LIBRARY := $(BUILD)/libdkimroll.a
UNIT_TESTS := $(patsubst tests/unit/%.c,$(BUILD)/tests/unit/%,$(wildcard tests/unit/test_*.c))
UNIT_HELPERS := $(patsubst %.c,$(BUILD)/%.o,$(filter-out $(wildcard tests/unit/test_*.c),$(wildcard tests/unit/*.c)))

.PHONY: all check demo bench clean install unit integration tests-run lint packages-build packages-demo packages-check tests-build

all: $(BUILD)/dkimroll

$(BUILD)/dkimroll: $(BUILD)/src/main.o $(LIBRARY)
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(LIBRARY): $(OBJECTS)
	@rm -f $@
	ar rcs $@ $^

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<

# An archive, so that a test takes only the helpers that it uses.
$(BUILD)/tests/unit/libhelpers.a: $(UNIT_HELPERS)
	@rm -f $@
	ar rcs $@ $^

$(BUILD)/tests/unit/test_%: $(BUILD)/tests/unit/test_%.o $(BUILD)/tests/unit/libhelpers.a $(LIBRARY)
	$(CC) $(LDFLAGS) -o $@ $< $(BUILD)/tests/unit/libhelpers.a $(LIBRARY) $(LDLIBS) -lcmocka

# The second opinion on signatures; no other program is linked with it.
$(BUILD)/tests/unit/test_dkim_opendkim: LDLIBS += -lopendkim

tests-build: $(UNIT_TESTS) $(BUILD)/dkimroll

# ---- what users and CI call ----

packages-build:
	@tests/tools/install-packages $(PACKAGES_BUILD)
packages-demo:
	@tests/tools/install-packages $(PACKAGES_BUILD) $(PACKAGES_DEMO)
packages-check:
	@tests/tools/install-packages $(PACKAGES_BUILD) $(PACKAGES_DEMO) $(PACKAGES_CHECK)

# pkg-config may be missing when make starts, so everything after an installation runs in a make of its own.
demo: packages-demo
	@$(MAKE) --no-print-directory -s -j$(JOBS) all
	@DKIMROLL=$(abspath $(BUILD))/dkimroll tests/integration/demo.sh

check: packages-check
	@tests/tools/check $(JOBS)

bench: packages-demo
	@$(MAKE) --no-print-directory -s -j$(JOBS) all
	@DKIMROLL=$(abspath $(BUILD))/dkimroll tests/bench/bench.sh

# ---- parts of check ----

# What measures real time runs alone; the rest TEST_JOBS at a time, the long ones first.
TEST_JOBS ?= 1
TEST_ALONE := test_clock test_loop test_transport test_transport_callbacks test_transport_connections test_transport_tcp test_table \
  test_opendkim_reload test_signer_load scenario-commands scenario-demo scenario-load
TEST_LONG := test_life_clock test_life test_engine test_signer_opendkim test_signer_failures test_store_crash
SANITIZED := build-sanitized
SCENARIOS := $(sort $(wildcard tests/integration/scenario-*.sh))
SANITIZED_TESTS := $(UNIT_TESTS:$(BUILD)/%=$(SANITIZED)/%)
LONG_FIRST := $(TEST_LONG:%=$(SANITIZED)/tests/unit/%) $(TEST_LONG:%=$(BUILD)/tests/unit/%)
RUN_TESTS = TEST_JOBS=$(TEST_JOBS) TEST_ALONE="$(TEST_ALONE)" DKIMROLL=$(abspath $(BUILD))/dkimroll tests/tools/run-tests $(BUILD)

unit: tests-build
	@$(RUN_TESTS) $(UNIT_TESTS)

integration: $(BUILD)/dkimroll
	@$(RUN_TESTS) $(SCENARIOS)

# The tests of both builds, which are there already, and the scenarios, as check runs them.
tests-run:
	@$(RUN_TESTS) $(LONG_FIRST) $(filter-out $(LONG_FIRST),$(SANITIZED_TESTS) $(SCENARIOS) $(UNIT_TESTS))

lint:
	@tests/tools/lint

# ---- installation ----

install: all
	install -d $(DESTDIR)$(PREFIX)/sbin $(DESTDIR)$(PREFIX)/share/man/man8 $(DESTDIR)$(PREFIX)/share/man/man5 \
	  $(DESTDIR)$(PREFIX)/share/doc/dkimroll/examples $(DESTDIR)$(PREFIX)/share/bash-completion/completions \
	  $(DESTDIR)$(UNITDIR) $(DESTDIR)$(PREFIX)/lib/sysusers.d $(DESTDIR)$(PREFIX)/lib/tmpfiles.d
	install -m 755 $(BUILD)/dkimroll $(DESTDIR)$(PREFIX)/sbin/dkimroll
	install -m 644 docs/dkimroll.8 $(DESTDIR)$(PREFIX)/share/man/man8/dkimroll.8
	install -m 644 docs/dkimroll-policy.5 $(DESTDIR)$(PREFIX)/share/man/man5/dkimroll-policy.5
	install -m 644 README.md CHANGELOG.md LICENSE docs/architecture.md $(DESTDIR)$(PREFIX)/share/doc/dkimroll/
	install -m 644 policies/* $(DESTDIR)$(PREFIX)/share/doc/dkimroll/examples/
	$(BUILD)/dkimroll completion >$(DESTDIR)$(PREFIX)/share/bash-completion/completions/dkimroll
	sed 's|@SBINDIR@|$(PREFIX)/sbin|g' systemd/dkimroll-run.service.in >$(DESTDIR)$(UNITDIR)/dkimroll-run.service
	install -m 644 systemd/dkimroll-run.timer $(DESTDIR)$(UNITDIR)/dkimroll-run.timer
	install -m 644 systemd/dkimroll.sysusers $(DESTDIR)$(PREFIX)/lib/sysusers.d/dkimroll.conf
	install -m 644 systemd/dkimroll.tmpfiles $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/dkimroll.conf

clean:
	rm -rf build build-*

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
