"""Describes H200s that are not attached, so that XLA compiles for them (openxla/xla, pull request 16913).

pip install --no-deps jax-cuda12-plugin jax-cuda12-pjrt    # of jax's version
pip install nvidia-cuda-nvcc-cu12 nvidia-cudnn-cu12        # LD_LIBRARY_PATH=..site-packages/nvidia/cudnn/lib
"""

from jax.experimental import topologies

# NVIDIA's numbers for the chip: 132 processors of compute capability 9.0, 141 GB at 4.8 TB/s
DESCRIBED = """
gpu_device_info {
  cuda_compute_capability { major: 9 }
  threads_per_block_limit: 1024
  threads_per_warp: 32
  threads_per_core_limit: 2048
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  core_count: 132
  fpus_per_core: 128
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  clock_rate_ghz: 1.98
  l2_cache_size: 52428800
  device_memory_size: 141000000000
  memory_bandwidth: 4800000000000
}
platform_name: "CUDA"
runtime_version { major: 12 minor: 8 }
dnn_version_info { major: 9 minor: 10 }
device_description_str: "NVIDIA H200"
"""


def h200s(count: int) -> topologies.TopologyDescription:
    """A given number of H200s of one host."""
    return topologies.get_topology_desc(platform="cuda", target_config=DESCRIBED, topology=f"1x1x{count}")
