#!/bin/sh
# Installs what hand_pose_3d needs on a machine with ROS 2 (Humble, Jazzy, Kilted, Lyrical), and leaves the system's own
# Python packages alone. Run it in the workspace, as often as you like:
#
#   cd ~/ros2_ws && sh src/hand_pose_3d/config/install_python.sh [--cpu] [--no-rosdep] [FOLDER]
#
# 1. rosdep installs the packages of ROS 2 and the distribution (it asks for sudo), but not those that it would give to
#    pip: Ubuntu from 23.04 on refuses these, and on 22.04 they replace the NumPy that the distribution's OpenCV needs.
# 2. A virtual environment in FOLDER (default: venv), which sees the system's packages and which colcon passes by.
# 3. pip installs into it what is missing, with a NumPy that fits the distribution's OpenCV and SciPy.
#
# Then, in every terminal: . venv/bin/activate, before colcon build and before ros2 launch.
# --cpu: torch without CUDA, a far smaller download. PYTHON=...: another Python than /usr/bin/python3, which is ROS 2's.
set -eu

folder=venv torch_index= rosdep=yes
for argument in "$@"; do
  case $argument in
    --cpu) torch_index="--index-url https://download.pytorch.org/whl/cpu" ;;
    --no-rosdep) rosdep=no ;;
    -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 0 ;;
    -*) echo "install_python.sh: unknown option $argument; there are --cpu and --no-rosdep" >&2; exit 2 ;;
    *) folder=$argument ;;
  esac
done
package=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-/usr/bin/python3}

say() { echo "== $*"; }

if [ $rosdep = yes ] && command -v rosdep >/dev/null; then
  say "rosdep: packages of ROS 2 and the distribution"
  rosdep install --from-paths "$package" -y --ignore-src \
    --skip-keys "python3-onnxruntime-pip python3-pytorch-pip python3-rosbags-pip"
elif [ $rosdep = yes ]; then
  say "rosdep is not installed: going on without it"
fi

if [ ! -f "$folder/bin/activate" ]; then  # what venv writes last: one that was interrupted is made again
  say "virtual environment in $folder"
  "$python" -m venv --system-site-packages "$folder" || {
    echo "install_python.sh: no virtual environment could be made: sudo apt install python3-venv" >&2
    exit 1
  }
fi
touch "$folder/COLCON_IGNORE"
python=$folder/bin/python
grep -q "include-system-site-packages = true" "$folder/pyvenv.cfg" || {
  echo "install_python.sh: $folder does not see the system's packages, ROS 2 among them: name another folder" >&2
  exit 1
}

# Whether a module can be imported, and works together with the NumPy that is there. The distribution's own are taken as
# they are, but for those that it has too old a version of (Debian 12: onnx 1.12, torch 1.13).
has() {
  (cd / && "$python" -W ignore -c "
import re, sys, $1
numbers = lambda text: [int(number) for number in re.findall('[0-9]+', text)[:2]]
sys.exit('$1' in ('onnx', 'onnxruntime', 'safetensors', 'torch') and numbers($1.__version__) < numbers('$2'))
") >/dev/null 2>&1
}
full() { case $1 in /*) echo "$1" ;; *) echo "$PWD/$1" ;; esac; }
python=$(full "$python")

constraints=$(mktemp)
trap 'rm -f "$constraints"' EXIT
# Extensions that were built for NumPy 1 do not run with 2; the SciPy of Ubuntu 22.04 (1.8) warns from 1.25 on.
numpy=$(cd / && "$python" -c 'import numpy; print(numpy.__version__)' 2>/dev/null || echo none)
missing= torch="torch>=2.3"
case $numpy in
  1.1?.* | 1.20.* | 1.21.* | 1.22.*)
    missing="numpy>=1.23.2"
    echo "numpy<1.25" >"$constraints"
    ;;
  1.*) echo "numpy<2" >"$constraints" ;;
esac

while read -r module requirement; do
  has "$module" "$requirement" || missing="$missing $requirement"
done <<LIST
numpy numpy>=1.23.2
cv2 opencv-python-headless>=4.5.5.62
scipy.spatial scipy>=1.9.2
yaml pyyaml>=6.0
click click>=8.0
tqdm tqdm>=4.60
safetensors safetensors>=0.4
onnx onnx>=1.16
onnxruntime onnxruntime>=1.21
rosbags rosbags~=0.11.9
LIST
if [ -n "$missing" ]; then
  say "pip:$missing"
  # shellcheck disable=SC2086
  "$python" -m pip install -q -c "$constraints" $missing
fi
if ! has torch "$torch"; then
  say "pip: torch"
  # shellcheck disable=SC2086
  "$python" -m pip install -q -c "$constraints" $torch_index "$torch"
fi

cd /
"$python" -W ignore - <<'CHECK'
import importlib, sys

names = "numpy cv2 scipy.spatial yaml click tqdm safetensors onnx onnxruntime torch".split()
versions, broken = [], []
for name in names:
    try:
        importlib.import_module(name)
        top = name.partition(".")[0]
        versions.append(f"{top} {getattr(sys.modules[top], '__version__', '')}".strip())
    except Exception as error:
        broken.append(f"{name}: {error}")
print("==", ", ".join(versions))
if broken:
    sys.exit("install_python.sh: these do not work: " + "; ".join(broken))
CHECK
say "done. In every terminal: . $folder/bin/activate"
