# `make test` and `make demo` need Python 3.10 to 3.12, a C++ compiler and CMake; they install the rest into .venv.
#
#   make teleop-demo             the hand drives a simulated robot (INPUT=video.mp4 | /dev/video0 for your own)
#   make demo INPUT=photo.jpg | video.mp4 | /dev/video0    instead of the built-in clip
#   make TORCH_ARGS="--index-url https://download.pytorch.org/whl/cpu" ...   torch without CUDA, a far smaller download

PYTHON ?= python3
VENV ?= .venv
VENV_OLDEST ?= .venv-oldest
TORCH ?= torch==2.13.0
TORCH_ARGS ?=
PINS ?=
EXTRAS ?= dev
INPUT ?=
OUT ?=
GPU_OUT ?= gpu_output
MINUTES ?= 60

BIN := $(VENV)/bin
# A ROS 2 that is sourced in this shell stays out: .venv brings its own, and two would mix their libraries.
unexport ROS_DISTRO PYTHONPATH LD_LIBRARY_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH _ROS_WHEELS_BOOTSTRAP_COMPLETE
export AMENT_PREFIX_PATH := $(abspath $(VENV))
export PATH := $(abspath $(BIN)):$(PATH)
export OMP_WAIT_POLICY := passive
export PIP_DISABLE_PIP_VERSION_CHECK := 1

BUILD_FILES := pyproject.toml setup.py package.xml CMakeLists.txt \
	$(wildcard msg/*.msg config/cmake/*.cmake config/cmake/tf2_msgs/* config/cmake/tf2_msgs/msg/* hand_pose_3d/ros/bin/* launch/* config/*)

.PHONY: test test-oldest fuzz lint demo teleop-demo gpu install clean

test: lint
	$(BIN)/python -m pytest

# The lowest version of everything that setup.py and these extras declare; for Python 3.10 and 3.11.
OLDEST := $(shell { sed -n '/^DEPENDENCIES/,/^]/p' setup.py; grep -E '^(bag|test|train|viewer) = ' pyproject.toml; } \
	| grep -oE '[a-z0-9-]+[>~]=[0-9.]+' | sed 's/[>~]=/==/')
test-oldest:
	$(MAKE) VENV=$(VENV_OLDEST) EXTRAS=test,train,viewer TORCH="$(filter torch==%,$(OLDEST))" PINS="$(OLDEST)" install
	AMENT_PREFIX_PATH="$(abspath $(VENV_OLDEST))" PATH="$(abspath $(VENV_OLDEST))/bin:$$PATH" \
		$(VENV_OLDEST)/bin/python -m pytest

# What `make test` tries a thousand times, ten thousand times.
fuzz: install
	FUZZ_CASES=10000 $(BIN)/python -m pytest test/cli/test_fuzz.py test/ros/test_fuzzed_messages.py test/ros/test_rerun_topics.py

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

demo: install
	$(BIN)/python -m hand_pose_3d.ros.demo $(if $(OUT),--out "$(OUT)") $(if $(INPUT),--input "$(INPUT)")

teleop-demo: $(VENV)/.teleop
	$(BIN)/python -m hand_pose_3d.ros.teleop_demo $(if $(OUT),--out "$(OUT)") $(if $(INPUT),--input "$(INPUT)")

# On a machine with a GPU: the paper's networks from renders to report and weights, then the time of every stage.
gpu: install
	$(BIN)/hand_pose_3d reproduce --device cuda --minutes $(MINUTES) --out "$(GPU_OUT)"
	$(BIN)/hand_pose_3d benchmark --device cuda --warm-up 100 --model paper --weights "$(GPU_OUT)/weights" --json "$(GPU_OUT)/paper.json"
	$(BIN)/hand_pose_3d benchmark --device cuda --warm-up 100 --model lite --json "$(GPU_OUT)/lite.json"

install: $(VENV)/.installed

$(VENV)/.teleop: $(VENV)/.installed
	$(BIN)/pip install -q -c $(VENV)/.torch -e ".[teleop-demo]"
	touch $@

$(VENV)/.installed: $(VENV)/.torch $(BUILD_FILES)
	$(BIN)/pip install -q -c $(VENV)/.torch -e ".[$(EXTRAS)]"
	touch $@

# Before all else, so that no other package's wish decides which torch is taken; the file is the constraint later on.
$(VENV)/.torch:
	$(PYTHON) -c 'import sys; (3, 10) <= sys.version_info < (3, 13) or sys.exit("make needs Python 3.10 to 3.12, for which ROS 2 has wheels: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q $(TORCH_ARGS) $(TORCH)
	printf '%s\n' $(TORCH) $(PINS) > $@

$(VENV_OLDEST)/.torch: setup.py pyproject.toml  # where a lowest version is raised

clean:
	rm -rf $(VENV) $(VENV_OLDEST) build install log *.egg-info
