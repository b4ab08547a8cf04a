"""Train word2vec on the training reviews of IMDB, for recipes/sweeps/text_inputs.yaml.

python docs/make_review_vectors.py   writes word_vectors/imdb_word2vec.txt; needs gensim
"""

from pathlib import Path

from gensim.models import Word2Vec

import dlarch
from dlarch.spec import PAD

PATH = Path("word_vectors/imdb_word2vec.txt")


def main() -> None:
    data = dlarch.create_data("imdb")
    data.prepare_data()
    data.setup("fit")
    words = data.processor.tokens.tokens_by_id
    texts = [
        [words[token] for token in tokens[tokens != PAD].tolist()]
        for batch in data.in_order("train")
        for tokens in batch.tokens
    ]
    model = Word2Vec(
        texts, sg=1, vector_size=100, window=5, negative=5, min_count=2, epochs=5, seed=1, workers=1
    )
    PATH.parent.mkdir(exist_ok=True)
    model.wv.save_word2vec_format(PATH)
    print(f"{PATH}: {len(model.wv)} words; like 'great': {model.wv.most_similar('great', topn=5)}")


if __name__ == "__main__":
    main()
