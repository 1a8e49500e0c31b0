"""Products and bytes between devices, from the text of compiled programs."""

import re

import jax
import jax.numpy as jnp
import pytest

from benchmarks.compiled import read_compiled

# as a TPU's compiler writes a scanned layer: weights gathered in a loop of six, gradients scattered in a fusion
PROGRAM = """HloModule jit_step, is_scheduled=true

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[]{:T(128)} parameter(0)
  %y = f32[]{:T(128)} parameter(1)
  ROOT %sum = f32[]{:T(128)} add(%x, %y)
}

%all-reduce-scatter (whole: bf16[256,256]) -> bf16[64,256] {
  %whole = bf16[256,256]{1,0:T(8,128)(2,1)} parameter(0)
  %summed = bf16[256,256]{1,0:T(8,128)(2,1)} all-reduce(%whole), channel_id=9, replica_groups=[2,4]<=[8], to_apply=%add
  %from = s32[]{:T(128)} constant(0)
  ROOT %part.1 = bf16[64,256]{1,0:T(8,128)(2,1)} dynamic-slice(%summed, %from, %from), dynamic_slice_sizes={64,256}
}

%condition (state: (s32[], bf16[2,512,256])) -> pred[] {
  %turns = s32[]{:T(128)} constant(6)
  %state = (s32[]{:T(128)}, bf16[2,512,256]{2,1,0:T(8,128)(2,1)}) parameter(0)
  %turn = s32[]{:T(128)} get-tuple-element(%state), index=0
  ROOT %more = pred[]{:T(512)} compare(%turn, %turns), direction=LT
}

%product (a: bf16[2,512,256], b: bf16[4,64,256,1]) -> bf16[2,512,4,64] {
  %a = bf16[2,512,256,1]{3,1,2,0:T(8,128)(2,1)} parameter(0)
  %b = bf16[4,64,256,1]{1,3,2,0:T(8,128)(2,1)} parameter(1)
  ROOT %heads = bf16[2,512,4,64]{1,3,2,0:T(8,128)(2,1)} convolution(%a, %b), window={size=1x4 pad=0_0x3_3 rhs_reversal=0x1}, dim_labels=0bf1_1oi0->0b1f
}

%body (state.1: (s32[], bf16[2,512,256])) -> (s32[], bf16[2,512,256]) {
  %state.1 = (s32[]{:T(128)}, bf16[2,512,256]{2,1,0:T(8,128)(2,1)}) parameter(0)
  %part = bf16[64,256]{1,0:T(8,128)(2,1)} constant({...})
  %weights = bf16[256,256]{1,0:T(8,128)(2,1)} all-gather(%part), channel_id=3, replica_groups=mesh['axis_0'=4,'axis_1'=2] {'axis_0'}, dimensions={0}, metadata={op_name="jit(step)/while/body"}
  %heads.1 = bf16[2,512,4,64]{1,3,2,0:T(8,128)(2,1)} fusion(%weights, %weights), kind=kOutput, calls=%product
  ROOT %next = (s32[]{:T(128)}, bf16[2,512,256]{2,1,0:T(8,128)(2,1)}) tuple(%state.1, %heads.1)
}

ENTRY %main (tokens: bf16[2,512,256]) -> f32[256] {
  %tokens = bf16[2,512,256]{2,1,0:T(8,128)(2,1)} parameter(0)
  %loop = (s32[]{:T(128)}, bf16[2,512,256]{2,1,0:T(8,128)(2,1)}) while(%tokens), condition=%condition, body=%body
  %loss = (f32[256]{0:T(256)}, f32[]{:T(128)}) all-reduce(%loop, %loop), channel_id=1, replica_groups=[1,8]<=[8], to_apply=%add
  %moved = (bf16[128]{0}, bf16[128]{0}, u32[]{:S(2)}, u32[]{:S(2)}) collective-permute-start(%loop), source_target_pairs={{0,1},{1,0}}
  %kept = bf16[64,256]{1,0:T(8,128)(2,1)} fusion(%loss), kind=kCustom, calls=%all-reduce-scatter, metadata={op_name="kept"}
  ROOT %gradient = f32[32]{0:T(256)} reduce-scatter(%loss), replica_groups={{0,1,2,3},{4,5,6,7}}, dimensions={0}, to_apply=%add
}
"""  # noqa: E501


def test_loops_count_once_per_iteration():
    found = read_compiled(PROGRAM)
    assert found.flops == 6 * 2 * 2 * 512 * 256 * 256
    gathered, *others = found.collectives
    assert (gathered.times, gathered.devices, gathered.source) == (6, 4, "jit(step)/while/body")
    assert [one.times for one in others] == [1, 1, 1, 1]


def test_loops_may_declare_their_trip_count():
    """GPU compilers write it so; the condition may then be anything."""
    told = PROGRAM.replace(
        "body=%body", 'body=%body, backend_config={"known_trip_count":{"n":"6"},"known_init_step":{}}'
    )
    told = re.sub(r"(s32\[\]\S*) constant\(6\)", r"\1 parameter(1)", told)
    assert "constant(6)" not in told
    assert read_compiled(told) == read_compiled(PROGRAM)


def test_loop_of_unknown_length_counts_once():
    """The loop over the steps of a dispatch, whose number is an argument."""
    condition = "constant(6)"
    assert read_compiled(PROGRAM.replace(condition, "parameter(1)")).flops == read_compiled(PROGRAM).flops / 6


def test_started_collectives_list_inputs_before_outputs():
    text = """ENTRY %main (x: f32[8]) -> f32[8] {
  %x = f32[8]{0} parameter(0)
  %a = ((f32[64]{0}, bf16[8,2]{0}), (f32[16]{0}, bf16[2,2]{0})) reduce-scatter-start(%x, %x), replica_groups=[2,4]<=[8]
  %b = (f32[16]{0}, f32[64]{0}) all-gather-start(%x), replica_groups=[2,4]<=[8]
  ROOT %c = f32[64]{0} all-reduce-start(%x), replica_groups=[2,4]<=[8]
}
"""
    expected = {"reduce-scatter": 3 * (4 * 16 + 2 * 4), "all-gather": 3 * 4 * 16, "all-reduce": 2 * 3 * 4 * 16}
    assert read_compiled(text).bytes_by_kind() == expected


def test_bytes_are_those_sent_on_a_ring():
    assert read_compiled(PROGRAM).bytes_by_kind() == {
        "all-gather": 6 * 2 * 256 * 256 * 3 / 4,
        "all-reduce": 2 * 4 * 257 * 7 / 8,
        "collective-permute": 2 * 128,
        "reduce-scatter": 4 * 32 * 3 + 2 * 64 * 256 * 3,
    }


@pytest.mark.parametrize(
    ("labels", "window", "a", "b", "out", "expected"),
    [
        ("bf_io->bf", "", "1024,256", "256,512", "1024,512", 2 * 1024 * 256 * 512),
        # rows of a batch as positions of an image with holes, of which each kernel position meets one
        ("01bf_01oi->01bf", "window={size=2x4 stride=1x3 lhs_dilate=2x4}, ", "2,4,512,64", "2,4,512,64", "2,4,512,512")
        + (2 * 8 * 512 * 512 * 64,),
    ],
)
def test_convolutions_count_as_matrix_products(labels, window, a, b, out, expected):
    text = f"""ENTRY %main (x: f32[1]) -> f32[1] {{
  %x = bf16[{a}]{{1,0}} parameter(0)
  %y = bf16[{b}]{{1,0}} parameter(1)
  ROOT %z = bf16[{out}]{{1,0}} convolution(%x, %y), {window}dim_labels={labels}
}}
"""
    assert read_compiled(text).flops == expected


def test_scan_products_are_counted():
    def step(x, w):
        return jnp.tanh(x @ w), None

    program = jax.jit(lambda x, w: jax.lax.scan(step, x, w)[0]).lower(jnp.ones((8, 64)), jnp.ones((5, 64, 64)))
    assert read_compiled(program.compile().as_text()).flops == 5 * 2 * 8 * 64 * 64


def test_reordered_mesh_groups_are_read():
    """Groups in an unknown notation are refused."""
    groups = "mesh['axis_0'=4,'axis_1'=2] {'axis_0'}"
    assert groups in PROGRAM
    reordered = PROGRAM.replace(groups, "mesh['axis_0'=4,'axis_1'=2], device_ids=([2,4]T(1,0)) {'axis_0'}")
    assert read_compiled(reordered) == read_compiled(PROGRAM)
    with pytest.raises(ValueError, match="groups of devices"):
        read_compiled(PROGRAM.replace(groups, "some other way"))
