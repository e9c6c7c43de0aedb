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
PACKAGES_CHECK := binutils libcmocka-dev libopendkim-dev dbus-daemon knot-dnsutils clang-tidy cppcheck mandoc bash-completion

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

.PHONY: all check demo bench crash faults clean install unit integration crash-build crash-sample faults-build faults-sample lint packages-build packages-demo packages-check tests-build

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

# Each call that may fail, of the objects of src alone, goes to tests/fault/fault_calls.c. With sanitizers only, which tell leaks and wild pointers.
FAULT_TESTS := $(patsubst tests/fault/%.c,$(BUILD)/tests/fault/%,$(wildcard tests/fault/test_*.c))
$(BUILD)/tests/fault/calls.list: $(BUILD)/tests/fault/fault_calls.o
	nm --defined-only $< | sed -n 's/.* T fault_call_\(.*\)/\1 fault_call_\1/p' >$@
$(BUILD)/libdkimroll-faults.a: $(LIBRARY) $(BUILD)/tests/fault/calls.list
	objcopy --redefine-syms=$(BUILD)/tests/fault/calls.list $< $@
$(BUILD)/tests/fault/test_%: $(BUILD)/tests/fault/test_%.o $(BUILD)/tests/fault/fault.o $(BUILD)/tests/fault/fault_calls.o \
  $(BUILD)/tests/unit/libhelpers.a $(BUILD)/libdkimroll-faults.a
	$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS) -lcmocka

# What kills the program at a chosen system call.
$(BUILD)/tests/crash/killer: $(BUILD)/tests/crash/killer.o
	$(CC) $(LDFLAGS) -o $@ $^

# Under which memory runs out, also in libraries.
$(BUILD)/tests/crash/short.so: $(BUILD)/tests/crash/short.o
	$(CC) -shared -fPIC -o $@ $^
CRASH_TOOLS := $(BUILD)/tests/crash/killer $(BUILD)/tests/crash/short.so

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

# Killed at every system call that changes something; POINT=LIFE:CALL:before or :after for one of them.
crash: packages-check
	@$(MAKE) --no-print-directory -s -j$(JOBS) crash-build
	@DKIMROLL=$(abspath $(BUILD))/dkimroll BUILD=$(abspath $(BUILD)) tests/crash/crash.sh $(if $(POINT),--replay $(POINT),--all)

# Every call that may fail fails once; in check a sample of them.
faults: packages-check
	@$(MAKE) --no-print-directory -s -j$(JOBS) BUILD=build-sanitized SANITIZE=1 faults-build
	@FAULTS=$(or $(FAULTS),all) TEST_SECONDS=$(or $(TEST_SECONDS),7200) $(MAKE) --no-print-directory -s BUILD=build-sanitized SANITIZE=1 faults-sample

# ---- parts of check ----

unit: tests-build
	@tests/tools/run-tests $(BUILD) $(UNIT_TESTS)

integration: $(BUILD)/dkimroll
	@DKIMROLL=$(abspath $(BUILD))/dkimroll tests/tools/run-tests $(BUILD) $(sort $(wildcard tests/integration/scenario-*.sh))

crash-build: $(BUILD)/dkimroll $(CRASH_TOOLS)
crash-sample: $(BUILD)/dkimroll $(CRASH_TOOLS)
	@DKIMROLL=$(abspath $(BUILD))/dkimroll BUILD=$(abspath $(BUILD)) tests/tools/run-tests $(BUILD) tests/crash/crash.sh

faults-build: $(FAULT_TESTS)
faults-sample: faults-build
	@tests/tools/run-tests $(BUILD) $(FAULT_TESTS)

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
