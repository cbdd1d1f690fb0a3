"""The class list is complete and in the classifiers' order."""

from diptych.imagenet import imagenet_classes


def test_thousand_classes_in_order():
    classes = imagenet_classes()
    assert len(classes) == 1000
    assert [c.wnid for c in classes] == sorted({c.wnid for c in classes})  # the order is that of the WordNet ids
    assert (classes[0].name, classes[281].name, classes[999].name) == ("tench", "tabby", "toilet tissue")
    assert all(c.nouns and c.definition for c in classes)
