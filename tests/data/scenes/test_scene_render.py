import numpy as np
import pytest

from diptych.data.scenes.dials import dials_of
from diptych.data.scenes.render import render, render_many
from diptych.data.scenes.sampling import sample_scene
from diptych.data.scenes.shapes import Beam, hidden
from diptych.data.scenes.textures import linear
from diptych.data.scenes.view import View
from diptych.data.scenes.world import BACKGROUNDS, SHAPES, STYLES, Camera, Light, Scene, Thing
from diptych.types import InputError

MIXED = dials_of({"objects": "3-8", "style": "mixed", "lights": "2"})


def inside(shape, x, y, z):
    """Whether points are in the solid of radius 1 and height 2 that stands on the origin: the definition, no rays."""
    if shape == "sphere":
        return x**2 + y**2 + (z - 1) ** 2 < 1
    if shape == "cube":
        return (np.abs(x) < 1) & (np.abs(y) < 1) & (z > 0) & (z < 2)
    radius = 1 if shape == "cylinder" else 1 - z / 2
    return (np.hypot(x, y) < radius) & (z > 0) & (z < 2)


def marched(scene, size):
    """Ids and distances by walking along each ray in small steps until a point lies in a solid or in the ground."""
    position, target = np.array(scene.camera.position), np.array(scene.camera.target)
    forward = (target - position) / np.linalg.norm(target - position)
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right)
    up = np.cross(right, forward)
    at = (2 * (np.arange(size) + 0.5) / size - 1) * np.tan(np.radians(scene.camera.fov) / 2)
    rays = forward + at[None, :, None] * right - at[:, None, None] * up
    rays /= np.linalg.norm(rays, axis=2, keepdims=True)
    ids, distance = np.full((size, size), -1), np.full((size, size), np.inf)
    for step in np.arange(3, 16, 0.01):
        x, y, z = np.moveaxis(position + step * rays, 2, 0)
        found = np.full(z.shape, -1)
        for i, thing in enumerate(scene.things):
            dx, dy, radius = x - thing.x, y - thing.y, thing.height / 2
            c, s = np.cos(thing.turn), np.sin(thing.turn)
            found[inside(thing.shape, (c * dx + s * dy) / radius, (c * dy - s * dx) / radius, z / radius)] = i
        new = np.isinf(distance) & ((found >= 0) | (z <= 0))
        ids[new], distance[new] = found[new], step
    return ids, distance


@pytest.mark.parametrize("index", [0, 1, 2])
def test_ids_and_depth_agree_with_a_walk_along_each_ray(index):
    scene = sample_scene(MIXED, index)
    drawn = render(scene, 40)
    ids, distance = marched(scene, 40)
    same = drawn.ids == ids
    assert {thing.shape for thing in scene.things} == set(SHAPES)
    assert same.mean() > 0.995  # what differs is a ray that grazes an edge between two steps
    close = same & np.isfinite(distance)  # the walk ends before the horizon
    assert close.mean() > 0.6
    assert np.abs(drawn.depth - distance)[close].max() < 0.02


def hidden_by_chance(shape, points, lamp, radius, samples=600):
    """The share of a ball-shaped lamp that a solid hides, by straight lines to random points of the lamp."""
    random = np.random.default_rng(0)
    shares = []
    for point in points:
        ball = random.normal(size=(samples, 3))
        ball *= radius * random.random((samples, 1)) ** (1 / 3) / np.linalg.norm(ball, axis=1, keepdims=True)
        ways = lamp + ball - point
        steps = np.linspace(0.001, (2 - point[2]) / ways[:, 2].min(), 120)[:, None, None]
        x, y, z = np.moveaxis(point + steps * ways, 2, 0)
        shares.append(inside(shape, x, y, z).any(axis=0).mean())
    return np.array(shares)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_shadow_of_a_shape_agrees_with_lines_to_random_points_of_the_lamp(shape):
    lamp, radius = np.array([-8.0, -5.0, 9.0]), 1.1
    x, y = np.meshgrid(np.linspace(-1.5, 3.5, 14), np.linspace(-1.5, 3, 13))
    points = np.stack([x.ravel(), y.ravel(), np.where(np.arange(x.size) % 2, 0.0, 0.7)], axis=1)
    points = points[~inside(shape, points[:, 0] / 1.05, points[:, 1] / 1.05, points[:, 2] + 0.01)]
    px, py, pz = points.T.astype(np.float32)
    climb = lamp[2] - pz
    beam = Beam(px, py, pz, (lamp[0] - px) / climb, (lamp[1] - py) / climb, radius / climb)
    share = hidden(shape, beam)
    true = hidden_by_chance(shape, points, lamp, radius)
    assert (true > 0.99).sum() > 1 and (true < 0.01).sum() > 20
    assert np.abs(share - true).mean() < 0.02
    assert np.abs(share - true)[(true > 0.99) | (true < 0.01)].max() < 0.2
    assert np.corrcoef(share, true)[0, 1] > 0.98


def test_what_is_nearer_hides_what_is_further():
    scenes = [sample_scene(MIXED, i) for i in range(12)]
    overlaps = 0
    for scene, drawn in zip(scenes, render_many(scenes, 64)):
        alone = render_many([Scene((t,), scene.camera, scene.lights) for t in scene.things], 64)
        depth = np.stack([np.where(one.ids == 0, one.depth, np.inf) for one in alone])
        covered = np.isfinite(depth).sum(axis=0)
        assert np.array_equal(drawn.ids >= 0, covered > 0)
        assert np.array_equal(drawn.ids[covered > 0], depth.argmin(axis=0)[covered > 0])
        overlaps += (covered > 1).sum()
    assert overlaps > 300


def test_the_centre_of_a_thing_that_nothing_hides_lies_in_its_mask():
    scenes = [sample_scene(dials_of({"objects": "1"}), i) for i in range(40)]
    for scene, drawn in zip(scenes, render_many(scenes, 96)):
        thing = scene.things[0]
        u, v, depth = View(scene.camera).project(thing.x, thing.y, thing.height / 2)
        row, column = int((v + 1) * 48), int((u + 1) * 48)
        assert drawn.ids[row, column] == 0
        assert drawn.depth[row, column] < depth * 1.2


def test_shadows_darken_the_ground_where_the_lamp_is_hidden_and_nowhere_else():
    ball = Thing("sphere", "gray", "rubber", "large", 0.0, 0.0)
    lamp = Light((-4.0, 0.0, 8.0), 0.5)
    camera = Camera((0.0, -7.4, 6.0))
    with_ball, without = render_many([Scene((ball,), camera, (lamp,)), Scene((), camera, (lamp,))], 96)
    ratio = with_ball.image.mean(axis=2) / without.image.mean(axis=2)
    # The line from the lamp through the ball's centre (0, 0, 0.7) meets the ground at x = 4 * 0.7 / 7.3.
    u, v, _ = View(camera).project(1.2, 0.0, 0.0)
    assert with_ball.ids[int((v + 1) * 48), int((u + 1) * 48)] == -1
    bright = View(camera).project(-1.6, 0.0, 0.0)
    assert ratio[int((v + 1) * 48), int((u + 1) * 48)] < 0.75
    assert ratio[int((bright[1] + 1) * 48), int((bright[0] + 1) * 48)] > 0.97
    far = with_ball.ids < 0
    far[20:80, 20:80] = False
    assert np.array_equal(with_ball.image[far], without.image[far])


def test_things_throw_shadows_on_things():
    low = Thing("cube", "gray", "rubber", "small", 1.5, 0.0)
    high = Thing("cylinder", "red", "rubber", "large", 0.2, 0.0)
    lamp = (Light((-8.0, 0.0, 6.0), 0.3),)
    lit = render(Scene((low,), lights=lamp), 96)
    shaded = render(Scene((low, high), lights=lamp), 96)
    both = (lit.ids == 0) & (shaded.ids == 0) & (lit.image.mean(axis=2) > 90)  # the top, which the lamp shines on
    assert both.sum() > 20
    assert shaded.image[both].mean() < 0.75 * lit.image[both].mean()


def test_a_picture_depends_on_its_own_scene_only():
    scenes = [sample_scene(MIXED, i) for i in range(20)]
    together = render_many(scenes, 48)
    backwards = render_many(scenes[::-1], 48)[::-1]
    for scene, a, b in zip(scenes, together, backwards):
        alone = render(scene, 48)
        for one in (a, b):
            assert all(np.array_equal(x, y) for x, y in zip(alone, one))


def test_edges_are_smooth():
    """Close to a picture of eight times the size that is shrunk; a picture without smoothing is twice as far off."""
    smooth, rough = [], []
    for i in range(4):
        scene = sample_scene(dials_of({"objects": "6", "background": "plain"}), i)
        small, large = render(scene, 64), render(scene, 512)
        light = linear(large.image)  # what a pixel shows is the mean of the light in it
        shrunk = light.reshape(64, 8, 64, 8, 3).mean(axis=(1, 3))
        edges = np.ptp(large.ids.reshape(64, 8, 64, 8), axis=(1, 3)) > 0
        smooth.append(np.abs(linear(small.image) - shrunk)[edges].mean())
        rough.append(np.abs(light[4::8, 4::8] - shrunk)[edges].mean())
    assert np.mean(smooth) < 0.5 * np.mean(rough)


def test_style_and_ground_change_the_picture_and_nothing_else():
    scene = sample_scene(MIXED, 0)
    ways = [Scene(scene.things, scene.camera, scene.lights, b, s) for b in BACKGROUNDS for s in STYLES]
    drawn = render_many(ways, 48)
    assert len({one.image.tobytes() for one in drawn}) == len(ways)
    assert len({one.ids.tobytes() for one in drawn}) == len({one.depth.tobytes() for one in drawn}) == 1


@pytest.mark.parametrize("style", STYLES)
def test_materials_can_be_told_apart(style):
    for shape in SHAPES:
        spread = {}
        for material in ("rubber", "metal"):
            thing = Thing(shape, "red", material, "large", 0.0, 0.0, 0.3)
            drawn = render(Scene((thing,), style=style), 96)
            spread[material] = drawn.image[drawn.ids == 0].astype(float)
        difference = np.abs(spread["rubber"].mean(axis=0) - spread["metal"].mean(axis=0)).mean()
        assert difference > 4 or spread["metal"].std() > 1.2 * spread["rubber"].std()


def test_a_low_camera_sees_the_sky_and_an_empty_scene_is_ground():
    low = render(Scene((), Camera((0.0, -8.0, 1.0), (0.0, 0.0, 1.0))), 32)
    assert np.isinf(low.depth[:16]).all() and np.isfinite(low.depth[16:]).all()
    assert (low.ids == -1).all() and low.image.shape == (32, 32, 3) and low.image.dtype == np.uint8
    assert render_many([], 32) == []


def test_a_camera_that_looks_straight_down_is_refused():
    with pytest.raises(InputError, match="camera: .*straight down"):
        render(Scene((), Camera((0.0, 0.0, 9.0), (0.0, 0.0, 0.0))), 32)
