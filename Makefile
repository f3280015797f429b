# make run     reproduce, prove, fix and undo a fault in throw-away namespaces, then scan this host
# make setup   what 'make check' and most tests need; quick when nothing is missing
# make check   format, lint, strict types, docstrings, import rules, playbooks
# make test    every test (root: real namespaces)
# make prepare what the tests need beside 'make setup': a browser, daemons
# make man, make collection   manual pages; the Ansible collection
# make image   the container image, from the Debian package
# make bench   what things cost, side by side

VENV := .venv
BIN := $(VENV)/bin
# The system's Python where it is new enough: what the packages below belong to, and what runs the installed tool.
# One that somebody compiled beside it is often an eighth slower, for want of a profile to optimise with.
PYTHON ?= $(or $(shell /usr/bin/python3 -c 'import sys; sys.version_info < (3, 11) or print(sys.executable)' 2>&-),python3)
RUN_PACKAGES := nftables iptables libnftables1 iproute2 conntrack procps python3-venv
SETUP_PACKAGES := $(RUN_PACKAGES) gcc python3-dev
TEST_PACKAGES := $(SETUP_PACKAGES) strace openssh-client netcat-openbsd ipset zsh fish
# The report's page is tested in a real browser. npm only where none is: Debian's brings 400 packages.
TEST_PACKAGES += chromium chromium-driver fonts-dejavu-core $(if $(shell command -v npm),,npm)
# Whole hosts and userlands.
TEST_PACKAGES += mmdebstrap systemd-container
# What the daemons of the tests are linked with.
TEST_PACKAGES += libdevmapper1.02.1 libseccomp2 libsystemd0 libwrap0
# Unpacked, not installed: an installed docker.io or openssh-server starts a daemon.
docker := docker.io containerd runc busybox-static
openssh := openssh-server
# promtool, and what reads the watch's numbers.
prometheus := prometheus
# kubectl, for its kustomize.
kubernetes := kubernetes-client
# With the libraries that are not installed.
daemons := openvpn iperf3 snmpd tftpd-hpa unbound dnsmasq-base bind9 chrony kamailio nsd memcached xl2tpd socat \
	xinetd radsecproxy
# Named by the list: another list is unpacked anew.
DAEMONS := $(foreach d,docker openssh daemons prometheus kubernetes,build/$d/.$(shell echo $($d) | sha256sum | cut -c1-8))
AXE := build/axe/node_modules/axe-core/axe.min.js
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

CHECKS := check-types check-playbooks check-python check-style
HOSTS := $(addprefix hosts-,bookworm bullseye trixie)

.PHONY: setup prepare hosts $(HOSTS) run check $(CHECKS) format test bench man image clean packages-run packages-setup packages-test packages-bench

setup: packages-setup $(VENV)/.installed

packages-run: PACKAGES := $(RUN_PACKAGES)
packages-setup: PACKAGES := $(SETUP_PACKAGES)
packages-test: PACKAGES := $(TEST_PACKAGES)
packages-bench: PACKAGES := valgrind
# dpkg-query answers in milliseconds; apt-get runs only for what it does not know.
packages-run packages-setup packages-test packages-bench:
	@missing=$$(for p in $(PACKAGES); do \
	  dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || echo $$p; done); \
	if [ -n "$$missing" ]; then \
	  echo "installing $$missing"; \
	  $(SUDO) apt-get update -q && \
	  DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -q -y --no-install-recommends $$missing; fi

$(VENV)/.usable: pyproject.toml hatch_build.py | packages-run
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[terminal]'
	touch $@

# All at once where there is no environment yet: pip takes half a minute to find out what is needed,
# and one that came with an older Python a third more than today's.
$(VENV)/.installed: pyproject.toml hatch_build.py | packages-setup
	$(PYTHON) -m venv --upgrade-deps $(VENV)
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $(VENV)/.usable $@

run: packages-run $(VENV)/.usable
	$(SUDO) $(BIN)/remedy lab run tcp-invalid-reset
	$(SUDO) $(BIN)/remedy scan || test $$? -eq 2

# mypy takes as long as all others together, which run beside it.
check: setup
	@$(MAKE) --no-print-directory --jobs=2 --output-sync $(CHECKS)

check-types:
	$(BIN)/mypy

# It starts Ansible for each playbook, whose libraries that none needs would take two seconds.
check-playbooks:
	$(BIN)/yamllint --strict policies playbooks monitoring/kubernetes
	PYTHONPATH=tests/hosts/unused $(BIN)/ansible-lint --offline --profile production playbooks/*.yml

# What it takes for Python 2's file and str.decode() would leave a file out.
check-python:
	@$(BIN)/vermin --no-tips --violations -t=3.9- --no-parse-comments --eval-annotations \
	  --exclude file --exclude str.decode \
	  $(shell $(PYTHON) tests/unit/host_side.py)

check-style:
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/python tests/docs_pages.py --check

format:
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(AXE): | packages-test
	npm install --silent --no-audit --no-fund --prefix build/axe axe-core@4

prepare: packages-test $(AXE) $(DAEMONS)

# The Debians that tests lay their hosts over; where one is missing, the first test that needs it makes it.
hosts: $(HOSTS)
$(HOSTS): hosts-%: packages-test
	cd tests/hosts && $(SUDO) $(PYTHON) -c 'import debian; debian.root_folder("$*")'

UNPACK = $($(notdir $(@D)))
build/daemons/.%: UNPACK = $$(apt-get -qq -s install --no-install-recommends $(daemons) | awk '/^Inst/ {print $$2}')
$(DAEMONS): | packages-test
	rm -rf $(@D) && mkdir -p $(@D)/deb
	cd $(@D)/deb && apt-get download -q $(UNPACK)
	for package in $(@D)/deb/*.deb; do dpkg-deb --extract $$package $(@D) || exit 1; done
	rm -r $(@D)/deb
	touch $@

# Many tests wait for a kernel or for another process: with three processes for each processor, it was idle
# for a fifth of the time. The longest tests come first. Bytecode before: commands of tests would compile the
# tool again and again where nothing may write it (PYTHONDONTWRITEBYTECODE), and every worker each test, whose
# assertions are rewritten: half a minute of processor. A short folder: ssh's
# sockets are made there. In memory, as a disk takes milliseconds for each fsync. What fails beside the others is
# run once more, alone, and has failed if it fails again (tests/README.md).
WORKERS ?= $(shell expr 4 '*' $$(nproc))
TESTS := $(addprefix tests/,fleet systemd docker kernel userland browser fuzz unit)
test: setup prepare
	$(BIN)/python -m compileall -q remedies
	for tests in tests/unit "$(filter-out %/unit,$(TESTS))"; do \
	  PYTHONDONTWRITEBYTECODE= $(BIN)/pytest --collect-only -qq -p no:cacheprovider $$tests > /dev/null & done; wait
	folder=$$(mktemp --directory /tmp/t-XXXX) && \
	trap '$(SUDO) umount --lazy $$folder; rmdir $$folder' EXIT && \
	trap 'exit 130' HUP INT TERM && \
	$(SUDO) mount -t tmpfs -o size=3g,mode=0700 remedy-tests $$folder && \
	{ $(SUDO) $(BIN)/pytest --numprocesses=$(WORKERS) --dist=loadscope --basetemp=$$folder/t $(TESTS) || \
	  { test $$? = 1 && echo "UNSTABLE unless it fails again, alone:" && \
	    $(SUDO) $(BIN)/pytest --last-failed --exitfirst --basetemp=$$folder/alone $(TESTS); }; }

# Figures are kept in build/bench.json, and printed beside their targets at the end. It fails where
# one is missed, or where something could not be measured; all else is measured before.
BENCHES := bench journal_speed guard_speed report_speed fleet_speed watch_speed trace_flood
bench: setup packages-bench
	$(BIN)/python -m compileall -q remedies
	rm -f build/bench.json; failed=0; \
	for each in $(BENCHES); do \
	  $(SUDO) timeout --signal=INT --kill-after=30 600 $(BIN)/python tests/bench/$$each.py || { echo "$$each failed"; failed=1; }; \
	done; \
	$(BIN)/python tests/bench/figures.py && exit $$failed

man: setup
	$(BIN)/python -m remedies.cli.manual build/man

PACKAGE ?= ../remedy_$(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' remedies/__init__.py)_all.deb
image:
	$(SUDO) $(PYTHON) monitoring/kubernetes/image.py build/image $(PACKAGE)

collection: setup
	$(BIN)/python playbooks/collection/build.py build/collection

clean:
	rm -rf build dist $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
