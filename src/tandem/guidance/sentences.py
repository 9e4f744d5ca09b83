"""Common sentences in two parts: NEGATIVES, which guidance keeps a picture away from, and COMPARISON, among which the
finished picture's own prompt is ranked. Guidance never sees the second.
"""

_NEGATIVES = """
a photo of a person; a man in a suit; a woman smiling at the camera; a group of friends outdoors; a baby; an old man
a crowd of people; children at school; a soccer player; a man on a motorbike; a girl on a swing; a wedding; a dog
a puppy on a sofa; a cat; a horse in a meadow; cows in a field; a sheep; a monkey; a lion; a tiger; a bear
a bird on a branch; a duck on a pond; an eagle in the air; a fish under water; a shark; a frog; a snake; a lizard
a spider; a bee on a flower; a beetle; a snail; a crab; a rabbit; a pig; a mouse; a camel; a giraffe; a car
a red truck; a bus; a taxi; a bicycle; an aeroplane; a helicopter; a sailing boat; a ship in a harbour; a tractor
a train at a station; a road through the country; traffic in a city; a parking lot; a tall building
a house with a garden; a church; a tower; a stone wall; a door; a window; a staircase; a kitchen; a bedroom
a bathroom; an office; a shop; a table; a sofa; a lamp; a bottle; a glass of wine; a bowl of soup; a pizza
a hamburger; a salad; bread; a cake; ice cream; an apple; a lemon; grapes; vegetables; a carrot; a mushroom
a tomato; a plate of food; a cup of tea; a tree; a forest; a mountain; a lake; a river; a waterfall; the sea; waves
a beach; a desert; snow; ice; grass; a flower; roses; leaves; the sky; clouds; the sun; the moon at night; stars
rain; lightning; fire; smoke; fireworks; a sunrise; a book; a newspaper; a computer; a telephone; a television
a camera; a watch; a pair of glasses; an umbrella; a bag; a hat; a shirt; a dress; a shoe; a coat; a sock; a ring
a flag; a ball; a toy; a doll; a kite; a balloon; a drum; a piano; a violin; scissors; a hammer; a key; a knife
a spoon; a candle; a mirror; a map; a sign with letters; a page of text; a circle; a square; a triangle; a star
a heart; a cross; an arrow; a line; stripes; dots; a grid; a spiral; red; green; blue; yellow; orange; purple; pink
brown; black; white; grey; dark; bright; a red background; a white background; a black background
an empty white page; a blue circle; a red square; a yellow triangle; a black circle on white
a white square on black; a green square; a pattern of colours; a blurry photo; noise; a black and white photo
a drawing; a painting; a cartoon; an icon; an emoji of a face; a collage; a close-up; a texture
"""

_COMPARISON = """
a photo of a man; a family at the table; a doctor; a boy jumping into water; a skateboarder; a dancer on a stage
a fox in the snow; a parrot; a dolphin; a turtle; an owl at night; a peacock; a whale; a hedgehog; a fire engine
a scooter; a hot-air balloon; a canoe on a lake; a tram; a rocket; a market in the street; a skyscraper
a wooden hut; a playground; a library; a museum; a railway bridge; a strawberry; a sandwich; a fried egg; sushi
a pumpkin; a chocolate cake; a glass of orange juice; a volcano; a field of wheat; a cave; a tropical island
a foggy morning; a teapot; a typewriter; a backpack; a trumpet; a pair of boots; a wheel; a green star on white
a pink circle; a blue triangle on yellow; black and white stripes
"""


def _read(text: str) -> tuple[str, ...]:
    return tuple(" ".join(each.split()) for each in text.replace("\n", ";").split(";") if each.strip())


NEGATIVES = _read(_NEGATIVES)
COMPARISON = _read(_COMPARISON)
