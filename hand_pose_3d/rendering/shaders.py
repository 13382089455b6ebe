"""GLSL of the rasteriser: skin, cloth and props under image-based light, one key light and soft shadows."""

SURFACE = {"rest_at": "f4", "packed_at": "u4", "which_at": "f1"}
"""Surface pictures, of four numbers of this type per pixel: depth and rest position; normal, texture coordinates and
traits, packed by two or four; label, mesh, coarse noise and ambient occlusion. Only the last is cleared, so that the
others are invalid where nothing is visible."""

MOVING_ATTRIBUTES, KEPT_ATTRIBUTES = ("position", "normal"), ("rest", "traits", "uv", "part", "crease")
"""Attributes of VERTEX, in the order of a mesh's two buffers."""

_NOISE = """
vec3 tone(vec3 c) { return pow(clamp(c * (1. + .12 * c) / (1. + .36 * c), 0., 1.), vec3(1. / 2.2)); }
float hash(vec3 p) { p = fract(p * .3183099 + .1); p *= 17.; return fract(p.x * p.y * p.z * (p.x + p.y + p.z)); }
float noise(vec3 x) {
  vec3 i = floor(x), f = fract(x); f = f * f * (3. - 2. * f);
  return mix(mix(mix(hash(i), hash(i + vec3(1,0,0)), f.x), mix(hash(i + vec3(0,1,0)), hash(i + vec3(1,1,0)), f.x), f.y),
             mix(mix(hash(i + vec3(0,0,1)), hash(i + vec3(1,0,1)), f.x),
                 mix(hash(i + vec3(0,1,1)), hash(i + vec3(1,1,1)), f.x), f.y), f.z);
}
"""

VERTEX = (
    """#version 330
uniform mat4 projection; uniform int num_capsules;
uniform vec4 capsule_start[19]; uniform vec3 capsule_end[19];  // of one hand, as pose.capsules gives them
in vec3 position; in vec3 normal; in vec3 rest; in vec4 traits; in vec2 uv; in float part; in float crease;
out vec4 n_n1; out vec4 r_cr; out vec4 a; out vec3 t_ao; flat out float pt;  // few varyings, as they cost
uniform float seed; uniform vec3 rest_scale;
"""
    + _NOISE
    + """
void main() {
  vec3 r = rest * rest_scale;
  r_cr = vec4(r, crease); a = traits; pt = part;
  gl_Position = projection * vec4(position, 1);
  float open = 1.;
  vec3 N = normalize(normal);
  for (int i = 0; i < num_capsules; i++) {  // occlusion by a sphere at the nearest point of each capsule's axis
    vec3 s = capsule_start[i].xyz, d = capsule_end[i] - s, p = position + N * .002;
    vec3 q = s + d * clamp(dot(p - s, d) / dot(d, d), 0., 1.) - p;
    float l2 = dot(q, q), l = sqrt(l2), rad = capsule_start[i].w;
    float c = dot(N, q) / l;
    open *= 1. - .75 * clamp(c * 1.1 + .1, 0., 1.) * min(rad * rad / l2, 1.);
  }
  t_ao = vec3(uv, open);
  n_n1 = vec4(normal, noise(r * 90. + seed));
}"""
)

_PACKING = """#version 330
#extension GL_ARB_shading_language_packing : require
"""

SURFACE_FRAGMENT = (
    _PACKING
    + """
uniform float mesh; uniform float sleeve; uniform float glove; uniform float label_shift;
in vec4 n_n1; in vec4 r_cr; in vec4 a; in vec3 t_ao; flat in float pt;
layout(location = 0) out vec4 rest; layout(location = 1) out uvec4 bits; layout(location = 2) out vec4 which;
void main() {
  vec3 n = n_n1.xyz / (abs(n_n1.x) + abs(n_n1.y) + abs(n_n1.z));  // onto an octahedron, its far half folded outwards
  vec2 fold = n.z < 0. ? (1. - abs(n.yx)) * (1. - 2. * vec2(lessThan(n.xy, vec2(0.)))) : n.xy;
  bool bare = glove > .5 || a.z <= sleeve + .004 * (n_n1.w - .5);  // a hand's sleeve is part of the person, 1
  float label = pt > 1. && bare ? pt + label_shift : min(pt, 1.);
  rest = vec4(1. / gl_FragCoord.w, r_cr.xyz);
  bits = uvec4(packSnorm2x16(fold), packUnorm2x16(t_ao.xy), packHalf2x16(vec2(a.z, r_cr.w)),
                 packUnorm4x8(a.xyww));
  which = vec4(label / 255., mesh / 255., n_n1.w, t_ao.z);
}"""
)

SCREEN_VERTEX = """#version 330
uniform vec4 box;  // left, top, right, bottom in -1..1
uniform float mesh;
in vec2 corner; void main() { gl_Position = vec4(mix(box.xy, box.zw, corner * .5 + .5), mesh / 32. - 1., 1); }"""

_READ_SURFACE = (
    _PACKING
    + """
uniform sampler2D rest_at; uniform usampler2D packed_at; uniform sampler2D which_at;
uniform vec4 lens;  // from a pixel's coordinates to x and y of what it shows, by depth
uniform int material;  // 0 arm, 1 prop
uniform vec3 base; uniform float roughness; uniform float bump; uniform float blotch; uniform float seed;
uniform vec3 nail_colour;
uniform float creases; uniform float palm;
uniform float veins; uniform float hair; uniform float texture_share; uniform vec3 texture_mean;
uniform float palm_light; uniform float trousers; uniform vec3 trouser_colour;
uniform float sleeve; uniform vec3 cloth_a; uniform vec3 cloth_b; uniform float stripes; uniform float cloth_kind;
uniform float glove; uniform vec4 watch; uniform vec3 metal; uniform vec4 ring; uniform vec3 ring_axis;
uniform sampler2D skin;
// a: palm side, redness, metres up the arm, nail
"""
    + _NOISE
    + """
// 1 in every other half of x, and what a pixel sees of it where it sees more.
float stripe(float x) { return clamp((.25 - abs(fract(x - .25) - .5)) / max(fwidth(x), 1e-4) + .5, 0., 1.); }
// What is seen at a pixel: set by read_surface().
vec3 v, N, V, albedo; float ao, rough, height, is_cloth, is_nail, is_metal, is_skin;
void read_surface() {
  ivec2 at = ivec2(gl_FragCoord.xy);
  vec4 own = texelFetch(rest_at, at, 0), which = texelFetch(which_at, at, 0);
  uvec4 bits = texelFetch(packed_at, at, 0);
  float there = step(.5 / 255., which.y);  // derivatives at outlines see the pixels beside, where nothing is
  own *= there; bits *= uint(there);
  vec2 fold = unpackSnorm2x16(bits.x), t = unpackUnorm2x16(bits.y), up_cr = unpackHalf2x16(bits.z);
  vec4 a = unpackUnorm4x8(bits.w); a.z = up_cr.x;
  vec3 r = own.yzw; float n1 = which.z, cr = up_cr.y;
  v = vec3((gl_FragCoord.xy * lens.xy + lens.zw) * own.x, own.x); V = normalize(-v); ao = which.w;
  N = vec3(fold, 1. - abs(fold.x) - abs(fold.y));
  N.xy -= max(-N.z, 0.) * (1. - 2. * vec2(lessThan(N.xy, vec2(0.)))); N = normalize(N);
  if (dot(N, V) < 0. && material == 1) N = -N;
  is_cloth = 0.; is_nail = 0.; is_metal = 0.; rough = roughness; float strength = bump;
  vec3 p = r * 90. + seed;
  float n2 = noise(p * 3.7), n3 = mix(.5, hash(floor(p * 11.)), .6);  // of a millimetre: no smoother than a pixel
  if (material == 0) {
    is_cloth = max(step(sleeve + .004 * (n1 - .5), a.z), glove);
    albedo = base * (1. + blotch * (n1 - .5) + .16 * (n2 - .5) + .12 * (n3 - .5));
    if (texture_share > 0.) {
      vec2 right = dFdx(t), down = dFdy(t);  // more than a step: a seam between two pieces of the texture
      right *= step(dot(right, right), 1e-3); down *= step(dot(down, down), 1e-3);
      vec3 tex = textureGrad(skin, t, right, down).rgb;
      albedo *= mix(vec3(1.), clamp(tex * tex / texture_mean, .3, 2.), texture_share);
    }
    float light_skin = dot(base, vec3(.333));
    albedo = mix(albedo, vec3(.82, .54, .43) * (.32 + .85 * light_skin) * (.9 + .2 * n2), a.x * palm_light);
    albedo *= mix(vec3(1.), vec3(1.06, .80, .77), a.y * (.6 + .6 * n1));
    if (creases > 0.) {
      float wave = .0012 * (n2 - .5), d = abs(cr + wave);
      float fold = exp(-d * d / 5e-7) * a.x * .8;  // one line across each finger joint inside, fine wrinkles outside
      fold += exp(-cr * cr / 1.2e-5) * (1. - a.x) * .35 * (.5 + .5 * sin(cr * 3600. + 9. * n2)) * (1. - a.w);
      if (a.x > .2 && cr > .5) {  // the three lines of the palm, in palm lengths
        vec2 q = r.xy / palm + .03 * (n2 - .5) + .02 * (n1 - .5);
        float heart = q.y - (.80 + .30 * (q.x + .45) + .25 * (q.x + .1) * (q.x + .1));
        float head = q.y - (.60 + .42 * q.x + .25 * q.x * q.x * q.x);
        float life = length((q - vec2(.45, .26)) * vec2(1., .86)) - .46;
        fold += exp(-heart * heart * 9000.) * smoothstep(.26, .12, q.x);
        fold += .8 * exp(-head * head * 9000.) * smoothstep(-.36, -.24, q.x);
        fold += exp(-life * life * 9000.) * smoothstep(.05, .15, q.y) * smoothstep(.48, .40, q.x);
      }
      albedo *= mix(vec3(1.), vec3(.60, .46, .42), clamp(fold, 0., 1.) * creases * .8);
    }
    if (veins > 0.) {
      float x = noise(r * vec3(130., 45., 130.) + seed * 1.7);
      float vein = smoothstep(.44, .5, x) * (1. - smoothstep(.5, .56, x)) * veins * (1. - a.x);
      albedo *= mix(vec3(1.), vec3(.82, .93, .98), vein);
    }
    if (hair > 0.) {
      float strand = smoothstep(.72, .8, noise(r * vec3(900., 160., 900.) + n1 * 3. + seed));
      albedo *= 1. - hair * strand * (1. - a.x) * smoothstep(-.03, .05, a.z);
    }
    is_nail = a.w * (1. - is_cloth);
    albedo = mix(albedo, nail_colour, is_nail);
    rough = mix(rough, .32, is_nail); strength = mix(strength, .05, is_nail);
    vec3 q = v - ring.xyz;
    if (abs(dot(q, ring_axis)) < ring.w && dot(q, q) < .016 * .016) is_metal = 1. - is_cloth;
    if (abs(a.z - watch.x) < watch.y && watch.y > 0. && is_cloth < .5) {
      is_metal = watch.z; albedo = cloth_b; is_cloth = 1. - watch.z; rough = .6;
    }
    float band = stripe((cloth_kind < .5 ? a.z : r.x) * stripes + .15 * n1);
    vec3 woven = mix(cloth_a, cloth_b, stripes > 0. ? band : 0.) * (.8 + .25 * n2 + .2 * n3);
    if (a.z > trousers) woven = trouser_colour * (.85 + .3 * n2);
    albedo = mix(albedo, woven, is_cloth);
  } else {
    float band = stripe((cloth_kind < .5 ? t.x : t.y) * stripes);
    albedo = mix(cloth_a, cloth_b, stripes > 0. ? band : smoothstep(.35, .65, noise(r * 60. + seed)) * blotch);
    albedo *= .88 + .24 * n2; is_metal = texture_share;
  }
  albedo = mix(albedo, metal, is_metal); rough = mix(rough, .3, is_metal);
  height = (.55 * n2 + .45 * n3) * strength * mix(1., 2.2, is_cloth) * .00035;
  is_skin = (1. - is_cloth) * (1. - is_metal) * (material == 0 ? 1. : 0.);
}
"""
)

FRAGMENT = (
    _READ_SURFACE
    + """
uniform mat4 light; uniform vec3 key; uniform vec3 key_direction; uniform vec3 fill; uniform vec3 fill_direction;
uniform vec3 sh[9]; uniform float exposure; uniform sampler2DShadow shadow;
layout(location = 0) out vec4 colour;
float fifth(float x) { float y = x * x; return y * y * x; }
vec3 irradiance(vec3 N) {
  return max(sh[0] + sh[1] * N.y + sh[2] * N.z + sh[3] * N.x + sh[4] * N.x * N.y + sh[5] * N.y * N.z
    + sh[6] * (3. * N.z * N.z - 1.) + sh[7] * N.x * N.z + sh[8] * (N.x * N.x - N.y * N.y), vec3(.01));
}
void main() {
  read_surface();
  vec4 ls = light * vec4(v, 1);
  // Bump from the height field's screen derivatives, fading where a pixel is wider than a wrinkle.
  vec3 sx = dFdx(v), sy = dFdy(v), r1 = cross(sy, N), r2 = cross(N, sx);
  float det = dot(sx, r1);
  vec3 steep = sign(det) * (dFdx(height) * r1 + dFdy(height) * r2) * clamp(.0012 / length(sx), 0., 1.);
  if (max(length(sx), length(sy)) < .02) N = normalize(abs(det) * N - steep);  // not across an outline
  float lit = texture(shadow, vec3(ls.xy * .5 + .5, ls.z * .5 + .5 - .004));
  if (any(greaterThan(abs(ls.xyz), vec3(1.)))) lit = 1.;  // the map ends near the hands
  vec3 wrap = mix(vec3(0.), vec3(.30, .13, .08), is_skin);  // light bleeds past the terminator, red furthest
  float nl = dot(N, key_direction);
  vec3 shade = mix(mix(vec3(.02), vec3(.14, .05, .03), is_skin), vec3(1.), lit);
  vec3 diffuse = clamp((vec3(nl) + wrap) / (1. + wrap), 0., 1.) * shade;
  vec3 bounce = ao + vec3(.6, .08, -.04) * (sqrt(ao) - ao) * is_skin;  // red leaves the skin where less light comes in
  vec3 light_in = key * diffuse + (fill * clamp(dot(N, fill_direction) * .8 + .2, 0., 1.) + irradiance(N)) * bounce;
  vec3 H = normalize(V + key_direction);
  float nh = max(dot(N, H), 0.), nv = max(dot(N, V), .2), a2 = rough * rough * rough * rough;
  float peak = nh * nh * (a2 - 1.) + 1., D = a2 / (3.1416 * peak * peak);
  vec3 f0 = mix(vec3(.028), metal, is_metal);
  vec3 F = f0 + (1. - f0) * fifth(1. - max(dot(V, H), 0.));
  vec3 specular = key * D * F / (4. * nv * .6 + .4) * lit * max(nl, 0.) * 3.1416 * (1. - .85 * is_cloth);
  vec3 grazing = f0 + (max(vec3(1. - rough), f0) - f0) * fifth(1. - nv);  // Fresnel's term, less on rough surfaces
  vec3 mirror = irradiance(reflect(-V, N)) * grazing * ao * (1. - .8 * is_cloth);
  vec3 c = albedo * light_in * (1. - .9 * is_metal) + specular + mirror;
  colour = vec4(tone(c * exposure), 1.);
}"""
)

G_BUFFER_FRAGMENT = (
    _READ_SURFACE
    + """
layout(location = 0) out vec4 colour; layout(location = 1) out vec4 finish;
void main() {
  read_surface();
  colour = vec4(albedo, height); finish = vec4(rough, is_metal, is_skin * (1. - is_nail), is_cloth);
}"""
)

SHADOW_VERTEX = (
    "#version 330\nuniform mat4 light; in vec3 position; void main() { gl_Position = light * vec4(position, 1); }"
)
SHADOW_FRAGMENT = "#version 330\nvoid main() {}"

WHICH_FRAGMENT = """#version 330
uniform sampler2D which_at;
layout(location = 0) out vec4 first; layout(location = 1) out vec4 second;
void main() {
  first = second = vec4(0.);
  float mesh = texelFetch(which_at, ivec2(gl_FragCoord.xy), 0).y * 255.;
  gl_FragDepth = mesh / 64.;  // as of SCREEN_VERTEX
}"""
